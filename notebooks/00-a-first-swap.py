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
# **Can a model that learned math in English and a model that read Swahili be put together so that the result does math in Swahili,
# with no Swahili math ever seen?**
#
# This chapter tells the whole story once, on a real pretrained model that a laptop can train: Gemma 3 270M. We make two experts,
# swap some layers of one into the other, and look at what came out. It takes ten minutes to read. The later chapters take each
# step apart.
#
# The idea is the paper's: train both experts whole, then take the outer transformer layers from the language expert and the middle
# ones from the math expert. It is called *Layer-Swapping* {cite:p}`bandarkar2025layerswapping,bandarkar2025unreasonable`. The
# paper's models are twenty-five to thirty times larger than ours. No number on this page is the paper's, and what a small model
# does is evidence about small models first.
#
# The weights are under the [Gemma Terms of Use](https://ai.google.dev/gemma/terms) and are not part of this project.

# %%
from IPython.display import Markdown, display

from xlnb import artifacts
from xlnb.chapters import base_and_data, figures, first_swap, words
from xlnb.corpora import templates
from xlnb.studies import comparisons, experiments, outcomes as results
from xlnb.studies.study import open_study
from xlnb.weights import merging, partitions

_ = display(Markdown(words.versions_line(artifacts.versions())))

# %% tags=["parameters"]
profile: str = "pocket"  # Gemma 3 270M; or smoke: random, for tests
live: bool = False  # True computes what is missing: 14 min on two cores
language: str = "sw"  # the target language
seed: int = 0  # of LoRA's start, the training examples and their order
device: str = "auto"  # auto, cpu, cuda, cuda:1
dtype: str = "float32"  # or bfloat16: autocast

# %% [markdown]
# ## One problem, two languages
#
# Everything is measured on grade-school word problems that exist in both languages, sentence by sentence. The situations that are
# scored never occur in training. This is one of them, with the solution that counts as right.

# %%
study = open_study(profile, language, seed, live, device, dtype)
_ = display(base_and_data.parallel_problems(language, "scored", 1))

# %% [markdown]
# The model is not asked cold: before each problem it sees two worked examples in the problem's language. So there *is* some Swahili
# math in the context, for every model alike; there is none in any training data.
#
# We read five things from a model. The primary one is the **information gained on the expressions**: how much likelier, in nats per
# token, the right calculations (`12 + 5`: which numbers, which operation) are behind their own problem than behind another one.
# Higher is better, and zero is a model that reads nothing from the problem; [the chapter on measuring](02-measuring.ipynb) says why
# this one. The **NLL of the solution** is how surprised the model is by the right solution, lower is better, and the **NLL of the
# expressions** is the same for the calculations alone. **Calculations right** is the share of problems for which the model's own
# answer contains every calculation of the solution. The final number is read too, but arithmetic with two-digit numbers is close to
# hopeless for a model of this size.

# %%
base = study.outcomes(experiments.BASE)
_ = display(words.scores_table(results.scores(base), "The base model"))

# %% [markdown]
# ## Two experts
#
# Both experts start from the same base and are fine-tuned with LoRA on the same budget. The *math expert* sees English word problems
# and nothing else. The *language expert* sees generic Swahili (stories, dialogues, translations, descriptions) without a single
# digit. Nobody ever sees a Swahili word problem.

# %%
experts = ("math-only", "language-only")
histories = {slug: study.history(slug) for slug in experts}
_ = first_swap.loss_figure(histories)

# %%
told = words.caveat(profile) + first_swap.training_sentence(histories)
_ = display(Markdown(told))

# %% [markdown]
# What an expert learned is its **task vector**: its parameters minus the base's. With base $t_0$, math expert $t_0 + m$ and language
# expert $t_0 + l$, everything below is a way to combine $m$ and $l$.
#
# ## The swap
#
# A *partition* says which layers belong to whom. The paper's partition C (as reported) gives the first six and the last two layers
# of 28 to 32 to the language, and all between to math. Scaled to the depth of our model that is this, with the control beside it:
# the very same layers, exchanged.

# %%
swap, control = (
    partitions.named_partition(name, study.depth)
    for name in ("C", partitions.COMPLEMENT)
)
_ = figures.partition_figure([swap, control])

# %% [markdown]
# With $M$ the layers that math owns, Layer-Swapping is
#
# $$t_0 + M \cdot m + (1 - M) \cdot l$$
#
# which in code is one line. It has a test that cannot be argued with: where math owns *all* layers, the swap must be the math expert
# itself, and a partition and its complement must add up to both task vectors whole.

# %%
if live:
    math, lang = (
        study.task_vector("math-only"),
        study.task_vector("language-only"),
    )
    all_math = partitions.uniform(1, study.depth)
    swapped = merging.layer_swapping(math, lang, swap)
    exchanged = merging.layer_swapping(math, lang, control)
    found = first_swap.identities(math, lang, all_math, swapped, exchanged)
    _ = display(Markdown(found))
else:
    told = "*From committed results: the experts are not at hand.*"
    _ = display(Markdown(told))

# %% [markdown]
# ## What came out
#
# Six ways to use the two experts, and the control. *Task arithmetic* adds both task vectors whole, the *soup* adds half of each.

# %%
outcomes = study.outcomes(experiments.FIRST_SWAP)
scores = results.scores(outcomes)
_ = figures.scores_figure(scores, title=words.figure_title(outcomes))

# %% [markdown]
# Each dot is a mean over the same problems, each line its 95 % interval over problems, the dotted line the base. Upper row: the
# target language, where the question lies. Lower row: English, where the math expert learned. The numbers:

# %%
_ = display(
    words.scores_table(results.select(scores, test_language=language))
)

# %%
_ = display(words.scores_table(results.select(scores, test_language="en")))

# %% [markdown]
# Intervals of single scores overlap even where one model is better on nearly every problem: all were scored on the *same* problems, so
# the differences must be taken problem by problem.

# %%
swap_arm, control_arm = (
    ("layer-swapping", "C"),
    ("layer-swapping", partitions.COMPLEMENT),
)
pairs = [
    (("math-only", ""), ("base", "")),
    (("language-only", ""), ("base", "")),
    (swap_arm, ("base", "")),
    (swap_arm, ("math-only", "")),
    (swap_arm, ("language-only", "")),
    (swap_arm, ("soup", "")),
    (swap_arm, ("task-arithmetic", "")),
    (swap_arm, control_arm),
]
differences = comparisons.contrasts(outcomes, pairs, language)
_ = figures.differences_figure(
    differences, title=words.figure_title(outcomes, language)
)

# %%
_ = display(words.differences_table(differences))

# %%
told = words.caveat(profile) + words.reading(differences, language)
_ = display(Markdown(told))

# %% [markdown]
# And this is what the models wrote to the problem above. One problem proves nothing, but it shows what is being counted.

# %%
problem = templates.problems(language, "scored", 1)[0]
_ = display(first_swap.answers_table(outcomes, problem))

# %% [markdown]
# ## Was it luck? Several trainings
#
# Everything so far is one training of each expert. Another seed draws other examples in another order and starts LoRA elsewhere. The
# committed results hold several trainings, scored on the same problems; their intervals cover both kinds of chance, another
# training and other problems. This section reads those results and computes nothing.

# %%
committed = results.load_outcomes(
    experiment="first-swap",
    profile="pocket",
    language="sw",
    split="scored",
    shots=2,
)
repeated = comparisons.contrasts(committed, pairs, "sw")
_ = figures.differences_figure(
    repeated, title=words.figure_title(committed, "sw")
)

# %%
_ = display(words.differences_table(repeated))

# %%
_ = display(Markdown(words.reading(repeated, "sw")))

# %% [markdown]
# And in English, where the math expert was trained:

# %%
english_pairs = [
    (arm, ("base", "")) for arm in [("math-only", ""), swap_arm]
] + [
    (swap_arm, ("math-only", "")),
]
repeated_english = comparisons.contrasts(committed, english_pairs, "en")
_ = display(words.differences_table(repeated_english))

# %%
_ = display(Markdown(words.reading(repeated_english, "en")))

# %% [markdown]
# **What these numbers do not show.** The problems come from a grammar with few situations, so intervals over problems understate how
# much *another kind* of problem would differ; and a few trainings say only roughly how much trainings differ. The learning rate and the number of steps were chosen once, after a few trial trainings
# of the math expert, by its NLL on development problems; the language expert and the merges took them over, which may favour the math
# expert. A soup halves both updates, so it is also the gentlest model here. And a difference in the NLL of whole solutions may come from
# wording as well as from understanding: that is why the expressions are scored apart, and why the primary reading asks what the
# problem adds to them. (That reading was chosen after these models had been scored by the others; all are shown.)

# %% [markdown]
# ## Summary

# %%
told = first_swap.first_swap_summary(repeated, repeated_english)
_ = display(Markdown(told))

# %% [markdown]
# - **What would change our mind:** a larger model, real benchmark problems (MGSM), a learning rate tuned for every method, or a
#   partition measured instead of taken over from models of nearly twice the depth. The next chapters go there one by one.
# - **Not run here:** the paper's four models and data sets.
#
# Next: [Base and data](01-base-and-data.ipynb) asks whether the base can do this task at all, and what the data are.
