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
# # The scorecard
#
# Every method, three languages, one table. Before: [Linearity](08-linearity.ipynb).

# %% tags=["remove-input"]
from xlnb.chapters import scorecard

scorecard.answer()

# %% [markdown]
# **The question.** With no math data in the language, do modular methods beat their baselines, and which of them is the best? That is
# the paper's comparison ([Bandarkar and Peng 2025](https://arxiv.org/abs/2505.18356)), on a model twenty-five to thirty times smaller.
# Six contrasts were written down before anything here was scored, with what would count as which answer: [the plan](../book/plan.md).
# Only they get verdicts. All else on this page is exploratory.

# %% tags=["hide-input"]
from IPython.display import Markdown, display

from xlnb import artifacts
from xlnb.chapters import full_finetuning, on_mgsm, strength, updates, words
from xlnb.studies import claims
from xlnb.studies.study import open_study

display(Markdown(words.versions_line(artifacts.versions())))

# %% tags=["parameters"]
profile: str = "pocket"  # Gemma 3 270M; or smoke: random, for tests
live: bool = False  # True computes what is missing: 100 min on two cores
language: str = "sw"  # the target language of a live run
seed: int = 0  # of the live training; committed results have several
device: str = "auto"  # auto, cpu, cuda, cuda:1
dtype: str = "float32"  # or bfloat16: autocast

# %% [markdown]
# ## What is compared, and what it costs
#
# A merge costs two trainings, one expert each. *Data mixing* is one training on both experts' examples, as long as both together, or
# half as long. *Simultaneous fine-tuning* alternates: math batches move the middle layers only, language batches the outer ones. *Math
# last* goes on from the language expert, *language last* the other way round (Table 1).

# %%
study = open_study(profile, language, seed, live, device, dtype)
scorecard.budgets_table(study, number=1)

# %% [markdown]
# ## The plan's six contrasts
#
# Each is a difference averaged over the languages, over the same pairs of twins and the same trainings (Figure 1).

# %%
found = scorecard.outcomes(study)
plan = claims.planned(found)
scorecard.plan_figure(plan, number=1)

# %% tags=["remove-input"]
told = words.caveat(profile) + scorecard.reading(plan)
display(Markdown(told))

# %% [markdown]
# ## Every method in every language
#
# Held against the math expert alone, which needs no merge at all (Figure 2). The *oracle* learned word problems in the language, the
# data that the question says nobody has; the *format control* learned English solutions of the wrong problems.

# %%
scorecard.figure(found, number=2)

# %% tags=["remove-input"]
told = words.caveat(profile) + scorecard.far_off(found)
display(Markdown(told))

# %% [markdown]
# A mean may hide that a method wins now and then. Table 2 counts. Swaps under [measured partitions](03-importance.ipynb) join it
# one by one when every language and training has them; the figure then has their mean, and the best swap in hindsight, which nobody
# could have chosen.

# %%
scorecard.wins_table(found, number=2)

# %% [markdown]
# ## Other ways to look
#
# The metric of the figures is had by taking a problem's numbers, to a large part ([Measuring](02-measuring.ipynb)). Table 3 has those
# that numbers alone cannot give, and plain likelihood; Table 4 what a merge costs in English; Table 5 what is answered in words.

# %% tags=["hide-cell"]
display(scorecard.other_readings(found, number=3))
display(scorecard.english_table(found, number=4))
display(scorecard.answers_table(found, number=5))

# %% tags=["remove-input"]
told = words.caveat(profile) + scorecard.likelihood_reading(found)
display(Markdown(told))

# %% [markdown]
# ## Experts that hardly moved, and experts that moved far
#
# Does it matter how far experts have moved? Two updates can be added without loss where the model answers to both as if each were alone.
# That may hold while updates are small, and fail when they are large. Then Layer-Swapping, by which no parameter gets both, would win
# among large updates only, and what is found would depend on how long experts are trained. A pilot of one training looked like that, by
# plain likelihood.
#
# So there are experts of four strengths, from such as hardly move to such as nearly know their problems by heart, three trainings each,
# in one language. The second strength is that of all other pages by LoRA. Merges are held against the math expert *of the same strength*
# (Figure 3, Table 6): on the left by the metric of this page, on the right by the pilot's. Table 7 has the metrics of twins, Table 8 the
# trainings. This is ours, and not in the paper.

# %%
curve = strength.curve(strength.outcomes(study))
trained = updates.strengths(
    study, curve, updates.moved(study), updates.crossed(study)
)
strength.figure(curve, trained, number=3)

# %% tags=["remove-input"]
told = words.caveat(profile) + strength.summary(curve)
display(Markdown(told))

# %% tags=["hide-cell"]
display(strength.differences_table(curve, number=6))
display(strength.differences_table(curve, 7, strength.TWINS))
display(strength.experts_table(trained, number=8))

# %% [markdown]
# *Yes*: every interval named is above zero. *No*: one of them is below. Else it cannot be told. Three trainings are few, and nothing is
# tested here. Whose layers help was asked last, when two trainings by heart had been seen.
#
# ## All parameters trained
#
# So far experts were trained by LoRA. The paper has full fine-tuning, too. Is the picture another one where all parameters inside the
# layers move? Figure 4 has the plan's six pairs by both paradigms, in the same trainings and languages; Table 9 has every method
# against the math expert, with twins and likelihood beside, Table 10 how often each wins.

# %%
both = full_finetuning.outcomes(study)
full_finetuning.figure(both, number=4)

# %% tags=["remove-input"]
told = words.caveat(profile) + full_finetuning.reading(both)
display(Markdown(told))

# %% tags=["hide-cell"]
display(full_finetuning.methods_table(both, number=9))
display(full_finetuning.wins_table(both, number=10))
display(Markdown(full_finetuning.strength_sentence(study, both)))

# %% [markdown]
# A paradigm is more than a list of parameters: rates differ, and with them how far experts move. What differs between the panels may come
# from either.
#
# ## Problems that people wrote
#
# All problems so far are of one grammar, which also wrote what the math expert learned. Here experts of public data are asked public
# problems: the math expert learned GSM8K's training problems, the language expert lines of news from NTREX-128, and both are merged as
# before. The problems are MGSM's, after two worked examples that are solved in English (Figure 5). Table 11 has the gains over the base,
# Table 12 what is answered in words.

# %%
people = on_mgsm.outcomes(study)
on_mgsm.figure(people, number=5)

# %% tags=["remove-input"]
told = words.caveat(profile) + on_mgsm.reading(people)
display(Markdown(told))

# %% tags=["hide-cell"]
display(on_mgsm.gains_table(people, number=11))
display(on_mgsm.answers_table(people, number=12))

# %% [markdown]
# **Change this:** hold every method against another one, `scorecard.figure(found, ("soup", ""))` for instance.
#
# ## Exercises
#
# 1. How often would a method be above the math expert in all of fifteen trainings by languages, if it were no better?
#
# <details><summary>Solution</summary>
#
# ```python
# 0.5**15
# ```
#
# Very seldom, if the fifteen were independent. They are not: the math expert of a seed serves three languages, and all of them are
# scored on the same problems. So counts of wins get no verdict here.
#
# </details>
#
# 2. Add a method of your own and see it in the scorecard. Live, with both experts at hand, that takes minutes.
#
# <details><summary>Solution</summary>
#
# ```python
# from dataclasses import replace
#
# from xlnb.methods import method
# from xlnb.studies.experiments import COMPARISON
#
#
# @method("Mostly math", "t0 + m + l/4")
# def mostly_math(math_only, language_only):
#     return math_only + 0.25 * language_only
#
#
# asked = replace(
#     COMPARISON,
#     methods=("base", "math-only", "mostly-math"),
#     languages=(language,),
# )
# if live:
#     display(scorecard.figure(study.outcomes(asked)))
# ```
#
# A method is a function of experts' task vectors, named by their slugs; `M` would be the partition.
#
# </details>
#
# ## Summary

# %% tags=["remove-input"]
told = (
    words.caveat(profile)
    + scorecard.summary(study)
    + "\n"
    + words.bullets([strength.in_short(curve)])
    + full_finetuning.summary(both)
)
display(Markdown(told))

# %% [markdown]
# **What would change our mind:** the paper's models and data; a metric that tells whether a problem was understood. A published
# machine summary of the paper has Layer-Swapping at 21.5 % against 19.0 % for a baseline, on average and with full fine-tuning;
# which baseline, and which average, we do not know. **Not run:** the paper's four models.
#
# Before: [Linearity](08-linearity.ipynb). Next: [Your own models](10-your-own-models.ipynb): with what you have, from no GPU to a
# cluster.
