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
# # Layer-Swapping
#
# **Which layers are swapped, how many, and would any other layers do as well?**
#
# The paper's best method trains both experts whole and swaps layers afterwards: the outer ones from the language expert, the
# middle from the math expert {cite:p}`bandarkar2025layerswapping,bandarkar2025unreasonable`. In
# [the first chapter](00-a-first-swap.ipynb) we did that once, by one partition. Here we look at the partition itself: what the
# named ones say, what happens if we swap more or fewer layers, and what the same number of *other* layers does. The last section
# shows how to merge models of your own from the command line.

# %%
from IPython.display import Markdown, display

from xlnb import artifacts
from xlnb.chapters import figures, layer_swapping, words
from xlnb.models import architectures
from xlnb.studies import experiments, outcomes as results
from xlnb.studies.study import open_study
from xlnb.weights import partitions

_ = display(Markdown(words.versions_line(artifacts.versions())))

# %% tags=["parameters"]
profile: str = "pocket"  # Gemma 3 270M; or smoke: random, for tests
live: bool = False  # True computes what is missing: 22 min on two cores
language: str = "sw"  # the target language
seed: int = 0  # of the live training; committed results have several
device: str = "auto"  # auto, cpu, cuda, cuda:1
dtype: str = "float32"  # or bfloat16: autocast

# %% [markdown]
# ## Saying where a parameter lives
#
# To swap layers we must know, for every parameter, its layer and its block: attention, FFN or norm. Checkpoints of different
# families spell this differently. The table is made by locating every parameter of these models, built from their public shapes
# without weights; *outside* are embeddings, final norm and head, in millions of parameters. The middle columns list the
# projections in each layer.

# %%
sites = architectures.sites_table()
_ = display(layer_swapping.sites_of(sites))

# %% [markdown]
# A decoder that is in no row of this table is located by its structure (one run of numbered layers, children with the usual names),
# and the output says so. What does not fit is refused by name: a guess would give a model that runs and is wrong.
#
# ## What is swapped
#
# A *partition* gives each layer's attention and FFN to math, to the language, or to both by half (a *transition* layer). These are
# the named ones on the depth of our model, with two controls: the same layers exchanged (*complement*), and as many layers at
# random.

# %%
study = open_study(profile, language, seed, live, device, dtype)
shown = ["C", "predecessor", "half and half", "complement of C"]
shown += ["random 0 of C", "A", "B"]
_ = figures.partition_figure(
    [partitions.named_partition(name, study.depth) for name in shown]
)

# %% [markdown]
# C is as reported of the paper, the *predecessor*'s as reported of the earlier paper; A and B are recalled, and so ours. On models
# of another depth than 28 to 32 layers the counts are scaled by one rule, which is ours too. How much of a model the language gets
# differs from partition to partition, and with the model's shape:

# %%
names = ["C", "predecessor", "half and half", "A", "B"]
_ = display(
    layer_swapping.owned_table(architectures.ownership_table(names))
)

# %% [markdown]
# So a comparison between A and C is one of *which* parameters and *how many* at once. The fair opponents of C are random partitions:
# they own exactly as many parameters. The complement answers another question, who gets what.
#
# ## Does it matter which layers?
#
# Every model below is made of the same two experts. Read is the likelihood of the right solutions to the scored problems, and of
# the calculations in them alone; both in nats per token, lower is better. Differences are taken problem by problem.

# %%
outcomes = study.outcomes(experiments.CONTROLS)
target = layer_swapping.control_contrasts(outcomes, language)
naming = layer_swapping.by_partition  # names a swap by its partition
_ = figures.differences_figure(
    target,
    title=words.figure_title(outcomes, language),
    metrics=layer_swapping.LIKELIHOODS,
    naming=naming,
)

# %% [markdown]
# Each row is C minus something else, with its 95 % interval; right of the line, C is better. Filled dots are differences that
# are shown at 5 % after Holm's correction for the rows of this figure. *Random, mean of 5* is the mean over five random partitions on each problem.

# %%
_ = display(words.differences_table(target, naming))

# %%
told = words.caveat(profile) + words.reading(target, language, naming)
_ = display(Markdown(told))

# %% [markdown]
# The same in English, where the math expert was trained: what does the swap cost there?

# %%
english = layer_swapping.control_contrasts(outcomes, "en")
_ = display(words.differences_table(english, naming))

# %%
told = words.caveat(profile) + words.reading(english, "en", naming)
_ = display(Markdown(told))

# %% [markdown]
# ## How many layers?
#
# Now the number of swapped layers on each side. A cell of the map is one swap: so many first layers (rows) and last layers (columns)
# come from the language expert, all others from the math expert. Shown is the difference to the whole math expert on the
# calculations. The problems are the *development* problems, and the map is a description: nothing in this book is chosen by it.
#
# The corner 0+0 swaps nothing. It must be the math expert, which is a check of the machinery:

# %%
sweep = study.outcomes(experiments.SWEEP)
_ = display(Markdown(layer_swapping.sweep_baseline(sweep, language)))

# %%
cells = layer_swapping.sweep_contrasts(sweep, language)
_ = layer_swapping.sweep_figure(cells, words.figure_title(sweep, language))

# %% [markdown]
# Blue cells are better than the math expert, orange ones worse; the interval stands below each difference, in bold where it is
# shown at 5 % after Holm's correction for all cells.

# %%
told = words.caveat(profile) + layer_swapping.sweep_reading(cells, language)
_ = display(Markdown(told))

# %% [markdown]
# ## Several trainings
#
# Everything so far may be one training of each expert. The committed results hold several; their intervals cover another training
# as well as other problems. This section reads them and computes nothing.

# %%
committed = results.load_outcomes(
    experiment="layer-swapping", profile="pocket", language="sw"
)
repeated = results.select(committed, split="scored")
several = layer_swapping.control_contrasts(repeated, "sw")
_ = figures.differences_figure(
    several,
    title=words.figure_title(repeated, "sw"),
    metrics=layer_swapping.LIKELIHOODS,
    naming=naming,
)

# %%
_ = display(Markdown(words.reading(several, "sw", naming)))

# %%
repeated_sweep = results.select(committed, split="development")
several_cells = layer_swapping.sweep_contrasts(repeated_sweep, "sw")
_ = layer_swapping.sweep_figure(
    several_cells, words.figure_title(repeated_sweep, "sw")
)

# %%
_ = display(Markdown(layer_swapping.sweep_reading(several_cells, "sw")))

# %% [markdown]
# **Transition layers** are one row of the comparison above: on this depth the predecessor's partition gives the language the same
# whole layers as C, and averages one more on each side. C minus *predecessor* is what leaving them out does.
#
# **What these numbers do not show.** The language expert was trained for a few minutes on sentences from a grammar, and by itself it
# makes Swahili problems worse (see [the first chapter](00-a-first-swap.ipynb)). Where a swap has little to gain, a map of swaps
# mostly shows what is lost by taking layers away from the math expert. Five random partitions are a few draws, and the intervals
# take them as given. Nor are they corrected for the number of comparisons.
#
# ## Merging your own
#
# None of this needs a notebook. With `xlnb` installed, two experts are merged from disk to disk; a swap copies bytes between files
# and loads no tensor, so a model of any size takes as long as copying it. Who owns what:
#
# ```shell
# xlnb partition list
# xlnb partition show C --model path/to/base
# xlnb partition show --bottom 4 --top 2 --transition 1 --model path/to/base --save mine.yaml
# ```
#
# The swap, of full checkpoints or of LoRA adapters (which stay an adapter); the YAML file can be edited by hand:
#
# ```shell
# xlnb merge layer-swapping --math path/to/math --language path/to/swahili --base path/to/base --out merged
# xlnb merge layer-swapping --math path/to/math --language path/to/swahili --base path/to/base \
#     --partition mine.yaml --out merged-mine
# ```
#
# Its rivals, each expert with a weight if you like, and the revert of a single expert:
#
# ```shell
# xlnb merge soup --expert path/to/math --expert path/to/swahili --base path/to/base --out soup
# xlnb merge task-arithmetic --expert path/to/math:0.7 --expert path/to/swahili:0.7 --base path/to/base --out sum
# xlnb merge ties --expert path/to/math --expert path/to/swahili --base path/to/base --density 0.2 --out ties
# xlnb revert --base path/to/base --expert path/to/math --keep math --out reverted
# ```
#
# And the same swap for those who work with mergekit:
#
# ```shell
# xlnb export mergekit --math path/to/math --language path/to/swahili --base path/to/base --out swap.yaml
# ```
#
# Whatever does not fit (another vocabulary, a missing layer, another base, too little disk) is said before anything is written.
# In Python the same verbs are `xlnb.merge`, `xlnb.revert`, `xlnb.partition` and `xlnb.export_mergekit`. Here is one, on the two
# experts of this chapter:

# %%
if live:
    told = layer_swapping.disk_check(study)
else:
    told = "*From committed results: the experts are not at hand.*"
_ = display(Markdown(told))

# %% [markdown]
# ## Summary

# %%
several_english = layer_swapping.control_contrasts(repeated, "en")
told = layer_swapping.swap_summary(several, several_english, several_cells)
_ = display(Markdown(told))

# %% [markdown]
# - **What would change our mind:** experts with more to give (a better language expert, full fine-tuning), real benchmark problems,
#   a larger model with the paper's depth, where the partition need not be scaled.
# - **Not run here:** the paper's four models. Merges from disk to disk were tested on small models of each architecture and timed on
#   a made-up model of 0.7 billion parameters, never on 7 billion.
#
# Before: [Measuring](02-measuring.ipynb).
