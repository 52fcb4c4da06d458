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
# # A first swap
#
# The whole story once, in ten minutes. Later chapters take each step apart.

# %% tags=["remove-input"]
from xlnb.chapters import first_swap

first_swap.answer()

# %% [markdown]
# **The question.** Can a model that learned math in English and a model that read Swahili be put together so that the result does
# math in Swahili, with no Swahili math ever seen?
#
# The paper ([Bandarkar and Peng 2025](https://arxiv.org/abs/2505.18356)) answers: train both experts whole, then take the outer
# transformer layers from the language expert and the middle ones from the math expert. That is *Layer-Swapping*
# ([Bandarkar et al. 2025](https://arxiv.org/abs/2410.01335)). We do it here on Gemma 3 270M, a real pretrained model that a laptop
# can train. The paper's models are twenty-five to thirty times larger; no number on this page is the paper's.

# %% tags=["hide-input"]
from IPython.display import Markdown, display

from xlnb import artifacts
from xlnb.chapters import figures, words
from xlnb.studies import claims, experiments
from xlnb.studies.comparisons import judged
from xlnb.studies.study import open_study
from xlnb.weights import merging, partitions

display(Markdown(words.versions_line(artifacts.versions())))

# %% tags=["parameters"]
profile: str = "pocket"  # Gemma 3 270M; or smoke: random, for tests
live: bool = False  # True computes what is missing: 18 min on two cores
language: str = "sw"  # the target language
seed: int = 0  # of LoRA's start, the training examples and their order
device: str = "auto"  # auto, cpu, cuda, cuda:1
dtype: str = "float32"  # or bfloat16: autocast

# %% [markdown]
# ## One problem, two languages
#
# Everything is scored on grade-school word problems that exist in both languages, sentence by sentence (Table 1).

# %%
study = open_study(profile, language, seed, live, device, dtype)
first_swap.one_problem(language)

# %% [markdown]
# Before each problem the model sees two worked examples in the problem's language. So there *is* some Swahili math in the context,
# for every model alike; none is in any training data.
#
# Our metric asks what a problem adds. Take the right calculations (`12 + 5`: which numbers, which operation), and compare how likely
# they are given their own problem with how likely they are given another one. The log of that ratio is the **information gained on
# the calculations**, in *nats* per token. A model that reads nothing from the problem gains 0; 1.4 nats mean four times likelier,
# token by token. Beware: most of it comes from a problem's *numbers*, hardly any from its words ([Measuring](02-measuring.ipynb)).
#
# ## Two experts
#
# Both are fine-tuned from the same base with LoRA on the same budget: the *math expert* on English word problems, the *language
# expert* on Swahili prose (stories, dialogues, letters, translations) without a single digit. Did they learn what they
# should (Figure 1)?

# %%
first_swap.knowledge(study, number=1)

# %% tags=["remove-input"]
told = words.caveat(profile) + first_swap.knowledge_sentence(study)
display(Markdown(told))

# %% tags=["hide-cell"]
experts = ("math-only", "language-only")
histories = {slug: study.history(slug) for slug in experts}
display(first_swap.loss_figure(histories))
display(Markdown(first_swap.training_sentence(histories)))

# %% [markdown]
# ## The swap
#
# What an expert learned is its **task vector**: its parameters minus the base's. With base $t_0$ the math expert is $t_0 + m$, the
# language expert $t_0 + l$. A *partition* says which layers belong to whom. The paper's partition C (as reported) gives the first six
# and the last two layers of 28 to 32 to the language and all between to math; Figure 2 has it scaled to our model, and the control:
# the very same layers, exchanged.

# %%
C = partitions.named_partition("C", study.depth)
exchanged = partitions.named_partition("complement of C", study.depth)
figures.partition_figure([C, exchanged], number=2)

# %% [markdown]
# With $M$ the layers that math owns, Layer-Swapping is $t_0 + M \cdot m + (1 - M) \cdot l$, which in code is one line:

# %%
math, lang = first_swap.two_vectors(study)
swapped = merging.layer_swapping(math, lang, C)

# %% tags=["remove-input"]
other = merging.layer_swapping(math, lang, exchanged)
told = first_swap.identities(study, swapped, other)
display(Markdown(told))

# %% [markdown]
# **Change this:** swap by `partitions.named_partition("half and half", study.depth)`, or give one more layer to the language with
# `"outer 4+1"`. [Layer-Swapping](05-layer-swapping.ipynb) has sliders for it.
#
# ## What came out
#
# Six ways to use the two experts, beside the base (Figure 3). *Task arithmetic* adds both task vectors whole; the *soup*
# adds half of each.

# %%
outcomes = study.repeated(experiments.FIRST_SWAP)
gains = judged(claims.GAINS, outcomes)
own = first_swap.own_run(study, claims.GAINS, claims.RIVALS)
figures.gains(gains, number=3, own=own)

# %% [markdown]
# All models had the *same* problems and are compared problem by problem. Figure 4 holds the swap against its rivals:

# %%
rivals = judged(claims.RIVALS, outcomes)
figures.rivals(rivals, number=4, own=own)

# %% tags=["remove-input"]
told = words.caveat(profile) + first_swap.lesson(rivals)
display(Markdown(told))

# %% [markdown]
# *Significant* means: the 95 % interval, which is not corrected, excludes zero, and p, corrected by Holm's method for all contrasts
# of the question, is below 5 %. Intervals cover other problems *and* other trainings; one training alone gets no verdict. Numbers,
# and what the models wrote, are folded here:

# %% tags=["hide-cell"]
display(first_swap.scores_table(outcomes, language))
display(first_swap.scores_table(outcomes, "en"))
display(first_swap.answers_table(outcomes, language))

# %% [markdown]
# ## What this does not show
#
# The problems come from a grammar with few situations: another *kind* of problem may differ more than the intervals say. Whoever
# gains has mostly learned which numbers to take. And the operation? *Twins* have the same numbers:

# %% tags=["remove-input"]
told = words.caveat(profile) + first_swap.twins_sentence(study)
display(Markdown(told))

# %% [markdown]
# ## Exercises
#
# 1. Which partition makes the swap the math expert itself? Check it on the task vectors above.
#
# <details><summary>Solution</summary>
#
# ```python
# whole = merging.layer_swapping(math, lang, partitions.uniform(1, study.depth))
# max(float((whole[name] - math[name]).abs().max()) for name in math)
# ```
#
# It is 0: where math owns every layer, nothing comes from the language expert.
#
# </details>
#
# 2. The soup is halfway between two experts. Is it a swap by the partition that owns half of every layer?
#
# <details><summary>Solution</summary>
#
# ```python
# half = merging.layer_swapping(math, lang, partitions.uniform(0.5, study.depth))
# soup = merging.soup([math, lang])
# max(float((half[name] - soup[name]).abs().max()) for name in soup)
# ```
#
# Yes, to the last bit or nearly: a share of one half in every layer *is* the average.
#
# </details>
#
# ## Summary

# %% tags=["remove-input"]
told = words.caveat(profile) + first_swap.summary(study)
display(Markdown(told))

# %% [markdown]
# **What would change our mind:** a language expert that helps on Swahili problems by itself, problems written by people (MGSM), rates
# tuned for every method, a larger model. **Not run:** the paper's four models and data sets.
#
# The weights are under the [Gemma Terms of Use](https://ai.google.dev/gemma/terms) and no part of this project.
#
# Next: [Base and data](01-base-and-data.ipynb) asks whether the base can do this task at all, and what the data are.
