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
# Which layers are swapped, how many, and would any other layers do as well? Before: [The experts](04-experts.ipynb).

# %% tags=["remove-input"]
from xlnb.chapters import layer_swapping

layer_swapping.answer()

# %% [markdown]
# **The question.** The paper's best method trains both experts whole and swaps layers afterwards: the outer ones from the language
# expert, the middle from the math expert ([Bandarkar and Peng 2025](https://arxiv.org/abs/2505.18356)). In
# [the first chapter](00-a-first-swap.ipynb) we did that once, by one partition. Here we look at the partition itself: what the named
# ones say, what the same number of *other* layers does, and what happens if we swap more or fewer. The last section merges models of
# your own from the command line.

# %% tags=["hide-input"]
from IPython.display import Markdown, display

from xlnb import artifacts
from xlnb.chapters import figures, playing, words
from xlnb.studies.study import open_study
from xlnb.weights import partitions

display(Markdown(words.versions_line(artifacts.versions())))

# %% tags=["parameters"]
profile: str = "pocket"  # Gemma 3 270M; or smoke: random, for tests
live: bool = False  # True computes what is missing: 30 min on two cores
language: str = "sw"  # the target language
seed: int = 0  # of the live training; committed results have several
device: str = "auto"  # auto, cpu, cuda, cuda:1
dtype: str = "float32"  # or bfloat16: autocast

# %% [markdown]
# ## What is swapped
#
# A *partition* gives each layer's attention and FFN to math, to the language, or to both by half (a *transition* layer). Figure 1 has
# the named ones on the depth of our model, with three controls: the same layers exchanged (*complement*), as many layers at random, and
# simply the lower half.

# %%
study = open_study(profile, language, seed, live, device, dtype)
shown = ["C", "predecessor", "half and half", "complement of C"]
shown += ["random 0 of C", "A", "B"]
figures.partition_figure(
    [partitions.named_partition(name, study.depth) for name in shown],
    number=1,
)

# %% [markdown]
# C is as reported of the paper, the *predecessor*'s as reported of the earlier one
# ([Bandarkar et al. 2025](https://arxiv.org/abs/2410.01335)); A and B are recalled, and so ours. On models of another depth than 28 to
# 32 layers the counts are scaled by one rule, which is ours too.
#
# How much of a model the language gets differs from partition to partition, and with the model's shape (folded below). So A against C
# compares *which* parameters and *how many* at once. The fair opponents of C are random partitions, which own exactly as many; the
# complement asks who gets what.

# %% tags=["hide-cell"]
names = ["C", "predecessor", "half and half", "A", "B"]
display(layer_swapping.owned(names))
display(layer_swapping.sites())

# %% [markdown]
# ## Does it matter which layers?
#
# Every model in Figure 2 is made of the same two experts. The metric is the primary one, information gained on the calculations, on
# scored problems.

# %%
found = layer_swapping.controls(study)
figures.rivals(found, number=2)

# %% tags=["remove-input"]
told = words.caveat(profile) + layer_swapping.reading(found)
display(Markdown(told))

# %% [markdown]
# *Random layers* is the mean over five random partitions on each problem. Intervals are not corrected, so one may exclude zero and still
# not be significant. Plain likelihood, which punishes confidence and, of whole solutions, pays for wording, tells another story: that
# table is folded here.

# %% tags=["hide-cell"]
layer_swapping.by_likelihood(study)

# %% [markdown]
# **Transition layers** are one row of Figure 2: on this depth the predecessor's partition gives the language the same whole layers as C
# and averages one more on each side.
#
# ## How many layers?
#
# Each cell of Figure 3 is one swap: so many first layers (rows) and last layers (columns) come from the language expert, all others
# from the math expert. The problems are *development* problems, and the metric is the plain likelihood of the calculations, at half
# the price of the primary one. It is a weak one: by it even the oracle is not significantly ahead of the base
# ([Measuring](02-measuring.ipynb)). So a grey map does not say that the number of layers does not matter, and nothing is
# chosen by it. The corner 0+0 swaps nothing and must be the math expert, which checks the machinery:

# %% tags=["remove-input"]
display(Markdown(layer_swapping.sweep_baseline(study)))

# %%
cells = layer_swapping.sweep(study)
layer_swapping.sweep_figure(cells, number=3)

# %% tags=["remove-input"]
told = words.caveat(profile) + layer_swapping.sweep_reading(cells)
display(Markdown(told))

# %% [markdown]
# Move the boundary yourself: the next cell has a slider for each end.

# %%
playing.boundary_player(cells)

# %% [markdown]
# ## What one training does not show
#
# Figure 4 is the same map from one training of each expert, with intervals over problems. It looks like a finding.

# %%
one = layer_swapping.one_training(study)
layer_swapping.sweep_figure(one, number=4)

# %% tags=["remove-input"]
told = words.caveat(profile) + layer_swapping.lesson(one, cells, study)
display(Markdown(told))

# %% [markdown]
# **Change this:** with `one = layer_swapping.one_training(study, seed=1)` or `seed=2` above, Figure 4 is the map of another training.
# Which cells keep their sign?
#
# ## What this does not show
#
# The language expert learned for a few minutes from prose; [the first chapter](00-a-first-swap.ipynb) shows what it
# knows. Where hardly a cell of the map loses anything although C does by the primary metric, the map shows how little its own metric sees
# rather than which layers matter. Five random partitions are a few draws, and the intervals take them as given.
#
# ## Merging your own
#
# None of this needs a notebook. With `xlnb` installed two experts are merged from disk to disk; a swap without transition layers copies
# bytes between files and loads no tensor, so it takes as long as copying the model. Transition layers are computed. Who owns what:
#
# ```shell
# xlnb partition list
# xlnb partition show C --model path/to/base
# xlnb partition show --bottom 4 --top 2 --transition 1 \
#     --model path/to/base --save mine.yaml
# ```
#
# The swap, of full checkpoints or of LoRA adapters (which stay an adapter); the YAML file can be edited by hand:
#
# ```shell
# xlnb merge layer-swapping --math path/to/math \
#     --language path/to/swahili --base path/to/base --out merged
# xlnb merge layer-swapping --math path/to/math \
#     --language path/to/swahili --base path/to/base \
#     --partition mine.yaml --out merged-mine
# ```
#
# Its rivals, each expert with a weight if you like, and the revert of a single expert:
#
# ```shell
# xlnb merge soup --expert path/to/math --expert path/to/swahili \
#     --base path/to/base --out soup
# xlnb merge task-arithmetic --expert path/to/math:0.7 \
#     --expert path/to/swahili:0.7 --base path/to/base --out sum
# xlnb merge ties --expert path/to/math --expert path/to/swahili \
#     --base path/to/base --density 0.2 --out ties
# xlnb revert --base path/to/base --expert path/to/math \
#     --keep math --out reverted
# ```
#
# And the same swap for those who work with mergekit:
#
# ```shell
# xlnb export mergekit --math path/to/math \
#     --language path/to/swahili --base path/to/base --out swap.yaml
# ```
#
# Whatever does not fit (another vocabulary, a missing layer, another base, too little disk) is said before anything is written.
# In Python the same verbs are `xlnb.merge`, `xlnb.revert`, `xlnb.partition` and `xlnb.export_mergekit`. Here is one on the two
# experts of this chapter, where they are at hand:

# %%
if live:
    told = layer_swapping.disk_check(study)
else:
    told = "*From committed results: no expert is at hand to merge.*"
display(Markdown(told))

# %% [markdown]
# ## Exercises
#
# 1. Which layers does partition B leave to the language on a model of 32 layers, and of which block?
#
# <details><summary>Solution</summary>
#
# ```python
# B = partitions.named_partition("B", 32)
# [layer for layer in range(32) if B.attention[layer] == 0]
# ```
#
# The attention of the first eight and the last four layers; `B.ffn` is 1 throughout, so all FFN stay with math.
#
# </details>
#
# 2. A swap and its complement add up to both task vectors. What does the *average* of the two merged models give?
#
# <details><summary>Solution</summary>
#
# The soup: half of $(t_0 + M m + (1 - M) l)$ and half of $(t_0 + (1 - M) m + M l)$ is $t_0 + m/2 + l/2$, whatever $M$ is.
#
# </details>
#
# ## Summary

# %% tags=["remove-input"]
told = words.caveat(profile) + layer_swapping.summary(study)
display(Markdown(told))

# %% [markdown]
# **What would change our mind:** experts with more to give (a better language expert), real benchmark problems, a
# larger model with the paper's depth, where the partition need not be scaled. **Not run:** the paper's four models. Merges from disk
# to disk were tested on small models of each architecture and timed on a made-up model of 0.7 billion parameters, never on 7 billion.
#
# Before: [The experts](04-experts.ipynb). Next: [Freezing or reverting](06-freezing-or-reverting.ipynb), the same layers given up before
# training.
