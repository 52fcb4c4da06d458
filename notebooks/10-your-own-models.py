# ---
# jupyter:
#   jupytext:
#     cell_metadata_filter: tags,-all
#     formats: ipynb,py:percent
#     notebook_metadata_filter: kernelspec,jupytext,-jupytext.text_representation.jupytext_version
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Your own models
#
# Two experts on disk, one GPU, eight, a cluster. Before: [The scorecard](09-scorecard.ipynb).

# %% tags=["remove-input"]
from xlnb.chapters import own_models

own_models.answer()

# %% [markdown]
# **The question.** What can you do with what you have: two experts on disk and no GPU, one GPU of 24 GB, eight of 80 GB, a cluster? And
# what does the paper's comparison ([Bandarkar and Peng 2025](https://arxiv.org/abs/2505.18356)) take with a model of yours? Say by the
# parameters which model, language, data and partition you mean; this page then speaks of them. It runs in seconds, on a laptop and
# without a network: large models are counted here, not loaded.

# %% tags=["hide-input"]
from IPython.display import Markdown, display

import xlnb
from xlnb import artifacts
from xlnb.chapters import at_scale, figures, second_model, words
from xlnb.weights import partitions

display(Markdown(words.versions_line(artifacts.versions())))

# %% tags=["parameters"]
profile: str = "pocket"  # what your models are scored as; or smoke: tests
live: bool = False  # True computes what is missing: 1 min on two cores
model: str = "Qwen/Qwen2.5-7B-Instruct"  # one of the paper's, or a folder
small_model: str = "Qwen/Qwen2.5-1.5B-Instruct"  # for the card of 24 GB
language: str = "sw"  # the target language: sw, bn or te
partition: str = "C"  # A, B, C, ... or a YAML file
math_expert: str = ""  # a folder of yours; two tiny experts where empty
language_expert: str = ""  # a folder of yours
base: str = ""  # the folder of what both were trained on
math_data: str = ""  # NAME[:PATH] to train on; the paper's where empty
language_data: str = ""  # the same of the language
price: float = 2.5  # of a GPU-hour
device: str = "auto"  # auto, cpu, cuda, cuda:1
dtype: str = "float32"  # or bfloat16: autocast; for scoring

# %% [markdown]
# ## Two experts on disk, no GPU
#
# An expert is a folder as transformers or PEFT writes it: a checkpoint, in one file or several, or a LoRA adapter. Give the folders of
# yours by `math_expert`, `language_expert` and `base`. Where none are given, the next cell trains two tiny ones from random weights.
# They know nothing, but on disk they look like any.

# %%
pair = own_models.experts(math_expert, language_expert, base, language)
print(pair.told(xlnb.partition(partition, pair.math)))

# %%
shares = partitions.Choice(partition).on(
    xlnb.partition(partition, pair.math).partition.depth
)
figures.partition_figure([shares], number=1)

# %% [markdown]
# Figure 1 draws what is printed above it. On the command line it is
#
# ```shell
# xlnb partition show C --model path/to/math --save mine.yaml
# ```
#
# and the YAML file that this saves can be edited by hand and given as `partition`.
#
# ### What is checked before it starts
#
# A merge that starts and fails an hour later is a nuisance; one that succeeds and is wrong is worse. So headers, configurations,
# tokenizers, dtypes, the disk's room and the output folder are looked at first. Table 1 asks for five merges that cannot be.

# %%
own_models.refusals(pair, number=1)

# %% [markdown]
# ### The swap
#
# From Python:

# %%
merged = pair.fresh()
done = xlnb.merge(
    "layer-swapping",
    merged,
    math=pair.math,
    language=pair.language,
    base=pair.base,
    partition=partition,
)
print(pair.told(done))

# %% [markdown]
# and the same from the command line:
#
# ```shell
# xlnb merge layer-swapping --math path/to/math \
#     --language path/to/language --base path/to/base \
#     --partition C --out merged
# xlnb diff path/to/math merged --partition C
# ```
#
# `xlnb diff` says whether the merge is what was meant: against the math expert nothing may differ in math's layers.

# %%
print(pair.told(xlnb.diff(pair.math, merged, partition=partition)))

# %% [markdown]
# ### What it costs
#
# The next cell runs the command in a process of its own (Table 2). Bytes go from file to file in pieces, so memory does not grow with the
# model; time does, as a copy's. Merges that compute (a soup, TIES) take longer, for the same reason still in little memory.

# %%
own_models.measured(pair, partition, number=2)

# %% [markdown]
# ### How it is scored
#
# Score the merge and the experts on the same problems. The first model named is what the others are held against, problem by problem:
#
# ```shell
# xlnb evaluate path/to/math path/to/language merged \
#     --base path/to/base --language sw
# xlnb evaluate path/to/math merged --base path/to/base \
#     --benchmark mgsm --language sw --chat
# ```
#
# Hold the merge against the math expert, not against the base alone. If it does not beat the math expert, you need no merge. With
# `live=True` the next cell scores yours on 24 of our word problems. The minute that `live` is said to take is that of the tiny experts;
# a large model wants a GPU.

# %%
if live:
    shown = own_models.scored(
        pair, merged, language, profile, device, dtype
    )
else:
    shown = Markdown("*Nothing is scored: `live` is False.*")
display(shown)

# %% [markdown]
# **Change this:** run the page on your own experts, from a shell:
#
# ```shell
# xlnb run 10 -p math_expert=$PWD/path/to/math \
#     -p language_expert=$PWD/path/to/language \
#     -p base=$PWD/path/to/base -p live=yes
# ```
#
# Whole paths: a notebook sees others from its own folder.
#
# ## What training takes
#
# Figure 2 has the memory of one training of the chosen model. This package keeps weights in float32 and computes in bfloat16, which
# costs four bytes a weight before anything is learned.

# %%
at_scale.memory_figure(model, number=2)

# %% tags=["remove-input"]
display(Markdown(at_scale.memory_told(model)))

# %% [markdown]
# Table 3 has the paper's comparison in one language in three places. Each card trains by itself, one seed a card.

# %%
at_scale.places_table(model, language, price, number=3)

# %% [markdown]
# `xlnb plan` tells the same for all four models, all languages, any card, with its formulas and assumptions. Tests hold memory by the
# formula against bytes counted on miniatures; hours rest on an assumed share of the card's peak.
#
# ### One GPU of 24 GB
#
# Table 4: the chosen model, and smaller ones, on such a card.

# %%
at_scale.smaller_table(model, language, number=4)

# %%
told = at_scale.commands(
    "one", small_model, language, price,
    math_data=math_data, language_data=language_data,
)  # fmt: skip
display(Markdown(told))

# %% [markdown]
# The first line tells what it takes. The second says what would be made, once model and data are on this machine (`xlnb fetch` brings
# them, and so does the third); a dry run downloads nothing. The third makes it. A study goes on where it was stopped, and what is made is
# not made again.
#
# ### Eight GPUs
#
# A process a card, a seed a process: nothing is shared between them but the disk. Where one training is too large for a card,
# `xlnb train math-only --processes 8` shares it out (FSDP); two processes on a processor give the losses of one.

# %%
told = at_scale.commands(
    "eight", model, language, price,
    math_data=math_data, language_data=language_data,
)  # fmt: skip
display(Markdown(told))

# %% [markdown]
# ### A cluster
#
# With large models a job of Slurm is one study, of one model and seed:

# %%
told = at_scale.commands(
    "cluster", model, language, price,
    math_data=math_data, language_data=language_data,
)  # fmt: skip
display(Markdown(told))

# %% [markdown]
# Where the nodes have no network, the login node brings model and data into a folder, and is told how all runs from there:
#
# ```shell
# xlnb fetch OUT --profile paper --model Qwen/Qwen2.5-7B-Instruct --languages sw
# ```
#
# The comparison of the small model has many short trainings, and `xlnb grid` sends each of them as a job. For a machine that has neither
# network nor this environment `xlnb pack` writes the study in parts:
#
# ```shell
# xlnb grid --languages sw,bn,te --dry-run
# xlnb grid --languages sw,bn,te -- --profile notebooks/slurm
# xlnb pack OUT --experiment main-methods --languages sw --seeds 0,1,2
# python3 OUT/unpack.py TARGET        # there: verifies, says what to run
# xlnb pack MADE --outcomes           # there, by the line that it printed
# xlnb unpack MADE                    # here
# ```
#
# [Reproducing](../book/reproducing.md) says more of each.
#
# ## The paper's setting, and how well it is known
#
# The paper's full text was not at hand. Table 5 is what profile `paper` takes, with the source of every value.

# %%
at_scale.setting_table(number=5)

# %% [markdown]
# ## A second model
#
# Is anything here tied to one model? SmolLM2 135M is of another family and half as large, with 30 layers, so that partition C stands as
# it is. Its tokenizer takes about three tokens for a Swahili word, and 10 to 22 for one of Bengali or Telugu. So it is asked in Swahili
# alone, a language that it hardly knows: an expert may have more to give there. Figure 3 has it beside Gemma.

# %%
both = second_model.rows(second_model.outcomes())
second_model.figure(both, number=3)

# %% tags=["remove-input"]
display(Markdown(words.caveat(profile) + second_model.told(both)))

# %% [markdown]
# ## What was run where, and what never
#
# Table 6 is read from the provenance of the committed results.

# %%
at_scale.provenance_table(number=6)

# %% [markdown]
# Never run:
#
# - a model of 7 or 8 billion parameters: no training, no score, no merge;
# - the paper's data sets as a whole, and its 80,000 examples an expert;
# - FSDP, or any other way to share a training between several GPUs, on GPUs; moments of eight bits, on a GPU;
# - the grid on Slurm, and `sbatch` as above;
# - answers by vLLM, which takes over on a GPU from a thousand million parameters on (the tests have a stand-in for it);
# - the workflow that publishes this book.
#
# ## Exercises
#
# 1. Partition C gives how many of the layers to the language, on 28 layers and on 18?
#
# <details><summary>Solution</summary>
#
# ```python
# [partitions.named_partition("C", depth).attention.count(0) for depth in (28, 18)]
# ```
#
# Eight and four. On 28 to 32 layers the counts stand as the paper has them (reported); on other depths they are scaled.
#
# </details>
#
# 2. You have four cards A100 of 40 GB. Does a smaller model train in full there?
#
# <details><summary>Solution</summary>
#
# ```python
# shape = at_scale.SMALLER["Qwen2.5-1.5B"]
# one = at_scale.planned("mine", "sw", "A100-40", "full", shape=shape)
# one.fits(at_scale.ASSUMED), round(one.memory.total / 2**30)
# ```
#
# Yes, on each of the four by itself: four seeds at once.
#
# </details>
#
# ## Summary

# %% tags=["remove-input"]
display(Markdown(own_models.summary(profile, both, model)))

# %% [markdown]
# **What would change our mind:** a run of one model of 7 billion parameters. Memory and hours are formulas here, and nobody knows from
# this page whether a swap beats the math expert on a model of that size. **Not run:** the paper's four models.
#
# Before: [The scorecard](09-scorecard.ipynb). Next: [Reproducing](../book/reproducing.md), how to run all this yourself.
