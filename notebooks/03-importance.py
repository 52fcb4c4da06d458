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
# # Importance
#
# Which parameters matter for math, which for the language, and are they others? Before: [Measuring](02-measuring.ipynb).

# %% tags=["remove-input"]
from xlnb.chapters import overlapping

overlapping.answer()

# %% [markdown]
# **The question.** Why should a model made of parts of two experts work? The paper's account is that the parameters that matter
# most for mathematical reasoning and for the target language are distinct, non-overlapping subsets ([Bandarkar and Peng
# 2025](https://arxiv.org/abs/2505.18356)). If so, a swap takes from each expert what it needs and loses little. But little
# overlap by itself says little: two trainings on the *same* task may overlap no more. So each number here stands beside two
# others, what chance gives and what the same task gives twice.

# %% tags=["hide-input"]
from IPython.display import Markdown, display

from xlnb import artifacts
from xlnb.chapters import agreeing, importance, measured, words
from xlnb.studies import importances, overlaps
from xlnb.studies.study import open_study

display(Markdown(words.versions_line(artifacts.versions())))

# %% tags=["parameters"]
profile: str = "pocket"  # Gemma 3 270M; or smoke: random, for tests
live: bool = False  # True computes what is missing: 240 min on two cores
language: str = "sw"  # the target language of a live run, and of Figure 4
seed: int = 0  # of the live training; committed results have several
device: str = "auto"  # auto, cpu, cuda, cuda:1
dtype: str = "float32"  # or bfloat16: autocast

# %% [markdown]
# ## Five ways to ask
#
# A *site* is the attention or the FFN of a layer, or one projection of it. "It matters" can mean several things (Table 1): that
# training moved it, that the base's loss is sensitive to it, that an expert cannot do without it. They need not agree.

# %%
importance.measures_table(number=1)

# %% [markdown]
# Taylor scores and Fisher look at the base, on texts like those that experts learn from; seeds are there samples of texts. The
# others look at our [experts](04-experts.ipynb); seeds are there trainings. Relative change is what others fitted partitions by
# ([Shin and Hwang 2026](https://arxiv.org/abs/2601.22620)), Taylor scores are those of pruning ([Molchanov et al.
# 2019](https://arxiv.org/abs/1906.10771)), and the Fisher matrix is the true one, with tokens drawn from the model, not the
# empirical one of the text's own tokens ([Kunstner et al. 2019](https://arxiv.org/abs/1905.12558)). Losses are means over a
# text's tokens. Math is asked on English problems, the language on prose; no scored problem is looked at.
#
# ## Who leans where
#
# Losses of different texts have no common scale. In Figure 1 each side's scores are therefore shares of their own sum, and the
# colour of a mark says whose share is the larger. A large light mark matters much to both.

# %%
study = open_study(profile, language, seed, live, device, dtype)
found = importance.maps(study)
importance.poster(found, number=1)

# %% tags=["remove-input"]
told = words.caveat(profile) + importance.seen(found)
display(Markdown(told))

# %% [markdown]
# **Change this:** `importance.save_poster(found, "poster.pdf")` writes the figure as a file to print.
#
# Table 2 says the same in two numbers: how deep in the model what matters lies, and how much of it is FFN.

# %%
agreeing.where_table(found, number=2)

# %% [markdown]
# ## Distinct subsets?
#
# To lean is not to be distinct. We ask how many of the most important sites of one side are among those of the other: the
# Jaccard index of the two tops, 1 if they are the same sites, 0 if they have none in common. Figure 2 has it for tops of every
# size.
#
# The control is the same index between two math experts of other data and another start, and between two language experts; for
# measures of the base between two samples of texts. Every pair is of two different seeds, also that of math and language, since
# experts of one seed share their random start. A seed is in many pairs, so an interval leaves out one seed at a time, with all
# its pairs, in all languages (the jackknife). No seed counts twice.

# %%
overlapping.figure(found, number=2)

# %% [markdown]
# **The rule** for a verdict was chosen from the claim's words alone and committed before any of these maps had been seen. It
# looks at the top 20 % of the sites, on average over the languages. By one measure they are *shared* if math and the language
# have more in common than chance, by the whole interval. Else they are *distinct* if they have less in common than the same
# task twice, by the whole interval. F1 is reproduced if three of the five measures say distinct, not reproduced if three say
# shared, else unclear (Table 3).

# %%
overlapping.table_of(found, number=3)

# %% tags=["remove-input"]
sites = overlaps.overlaps(importances.scores(found))
verdict = words.caveat(profile) + overlapping.reading(sites)
display(Markdown(f"{verdict} {agreeing.in_sites(sites)}"))
display(Markdown(agreeing.among_ffn(sites)))

# %% [markdown]
# Both comparisons are needed. A comparison with chance alone may call tops shared that have less than one site more in common
# than chance gives. Above chance and below the control, that means: more in common than by accident, less than one task has with
# itself. At chance *and* at the control would mean that the measure finds noise. Everything else on this page
# is exploratory: it has intervals, and no verdicts.
#
# Language by language, with rank correlations of all sites and a permutation of sites, it is folded here: by blocks (Table 4), by
# projections (Table 5), and by blocks for experts that were fine-tuned in full (Table 6: relative change alone). Sites of a model are
# no random sample: the permutation asks only whether their labels matter.

# %% tags=["hide-cell"]
display(overlapping.by_language(found, number=4))
display(overlapping.by_language(found, "projection", number=5))
full = importance.in_full(study)
display(overlapping.by_language(full, number=6, of=", full fine-tuning"))

# %% [markdown]
# Taylor scores ask what becomes of the loss if a weight is scaled down a little. In this model a norm follows the attention and
# the FFN, and others follow q and k, which take a scale out again. So for all of attention nothing is left but rounding, for up
# and down hardly anything: what is scored is the FFN's gate. What is left of the rest is tiny but no noise: it ranks these sites
# alike in every training and for both sides. So Taylor's rank correlations here are mostly of sites of which it says nothing, and
# so is the attention's half of a partition by Taylor scores below.
#
# ## Single weights, and why magnitudes say little
#
# The claim speaks of parameters, not of layers. Figure 3 takes each weight for itself: of the largest one per cent of the
# changes, or of the scores, how many are the same weights?

# %%
overlapping.elements(study, found, number=3)

# %% tags=["remove-input"]
told = words.caveat(profile) + overlapping.elements_told(study, found)
display(Markdown(told))

# %% [markdown]
# Little overlap of *changes* is what one gets for nothing. Adam divides each weight's step by the size of its gradients: a
# weight that hardly matters moves as far as one that matters much, as long as its gradients keep their sign. Which weights
# moved farthest is then mostly a matter of noise (Exercise 1), and two experts of the same task should show it as well. That is
# what the dashed lines are for: where they lie as low as the solid one, "non-overlapping" says nothing about math and language.
#
# ## Do the measures agree?
#
# A partition "by importance" is only as good as the measure. Table 7 has how far they rank the sites alike.

# %%
agreeing.agreement_table(found, number=7)

# %% tags=["remove-input"]
told = words.caveat(profile) + agreeing.in_language(found)
display(Markdown(told))

# %% [markdown]
# ## Partitions from measurement
#
# Each measure makes a partition: a block goes to whom it matters more, by the two shares. Or whole layers do, as many to the
# language as C gives it. They are fitted on English problems and prose alone, by experts of a seed that is scored nowhere.
# About half of that prose is among what these experts learned, and none of the problems.
# No partition is fitted by patching. Figure 4 has them beside those by hand.

# %%
measured.partition_figure(study, number=4)

# %% tags=["remove-input"]
told = words.caveat(profile) + measured.like_c(study)
display(Markdown(told))

# %% [markdown]
# Does measuring beat C, which was chosen by hand? Figure 5 holds swaps of the same experts under other partitions against
# the swap by C, on the scored problems of [the scorecard](09-scorecard.ipynb). *The best in hindsight* is for each training and
# language the partition that did best on these very problems. Nobody could have chosen it, and a part of its lead is luck: it
# says how much there is to win by choosing.

# %%
swaps = measured.against_c(study, measured.outcomes(study))
measured.figure(swaps, number=5)

# %% tags=["remove-input"]
told = words.caveat(profile) + measured.reading(swaps)
display(Markdown(told))

# %% [markdown]
# Partitions differ in how much they give to the language, too. A measured partition that gives it half of the blocks is a fair
# opponent of half and half, not of C; those in the size of C are C's. For a model of your own, `xlnb partition fit` writes such
# a partition to a file that `xlnb merge` takes:
#
# ```shell
# xlnb partition fit --measure fisher --base path/to/base \
#     --target sw --out mine.yaml
# xlnb merge layer-swapping --math path/to/math \
#     --language path/to/swahili --base path/to/base \
#     --partition mine.yaml --out merged
# ```
#
# **Change this:** with `language="te"` above, the figure has the partitions of another language.
#
# ## What a small base cannot tell
#
# The base has 270 million parameters and 18 layers. Its top 20 % of blocks are seven, so a Jaccard index moves in coarse steps.
# It does little math and knows its languages badly: where it knows nothing, sensitivity shows where it is *surprised*, not
# where an ability lives. Prose and word problems differ in form as much as in ability; a text of another form, without math,
# might lean the same way. Our math is that of templates, in which copying numbers goes far ([Measuring](02-measuring.ipynb)).
# Seeds tell of other trainings and other samples of texts. No interval here tells of another model, and in a larger one
# abilities may well live farther apart.
#
# ## Exercises
#
# 1. Give two trainings by Adam the same task: gradients whose sizes differ ten-thousandfold between weights, alike in both. Are
#    the weights that moved farthest the same?
#
# <details><summary>Solution</summary>
#
# ```python
# import torch
#
# from xlnb.analysis.overlap import by_chance, jaccard, top
#
# size = torch.logspace(-4, 0, 10_000)
#
#
# def moved(seed, optimizer):
#     torch.manual_seed(seed)
#     weight = torch.nn.Parameter(torch.zeros(10_000))
#     taken = optimizer([weight], lr=1e-3)
#     for step in range(90):
#         weight.grad = size * torch.randn(10_000)
#         taken.step()
#     return top(weight.detach().abs().numpy(), 0.1)
#
#
# shown = [
#     jaccard(moved(0, one), moved(1, one))
#     for one in (torch.optim.Adam, torch.optim.SGD)
# ]
# [round(value, 2) for value in (*shown, by_chance(10_000, 1_000))]
# ```
#
# By Adam hardly more than by chance, by plain gradient descent many: the size of the gradient is what Adam takes out.
# Importance is in that size.
#
# </details>
#
# 2. Blend: let blocks whose two shares differ little be averaged instead of given to one side.
#
# <details><summary>Solution</summary>
#
# ```python
# from xlnb.weights.partitions import Partition
#
# math, swahili = {"layers": [1, 2, 5, 4]}, {"layers": [4, 2, 2, 3]}
# [
#     str(Partition.from_scores(math, swahili, blend=blend))
#     for blend in (0.0, 0.2)
# ]
# ```
#
# `t` marks a layer that takes half of each update. `xlnb partition fit --blend 0.2` does it with measured scores.
#
# </details>
#
# ## Summary

# %% tags=["remove-input"]
told = words.caveat(profile) + overlapping.summary(sites, swaps)
display(Markdown(told))

# %% [markdown]
# **What would change our mind:** a larger base that is good at both, where tops of the same task overlap fully and those of
# math and language do not; measures at single neurons or heads; prose and problems of the same form. **Not run:** the paper's
# four models, and whatever its authors looked at when they speak of importance, which we do not know.
#
# Before: [Measuring](02-measuring.ipynb). Next: [The experts](04-experts.ipynb), whose training all this stands on.
