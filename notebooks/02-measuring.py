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
# # Measuring
#
# [Base and data](01-base-and-data.ipynb) looked at model and problems. Here the instruments are checked, before any method is compared.

# %% tags=["remove-input"]
from xlnb.chapters import bluffing, budgets, measuring

measuring.answer()

# %% [markdown]
# **The question.** What do we measure, how noisy is it, and are answers read right? A merge may gain a few points, and a few points are
# easily made by chance, by the format of the answers, or by a pattern that cannot read Bengali. So we test every metric on models
# whose order we know, read the same answers by two readers, and ask how many problems and trainings a difference takes.

# %% tags=["hide-input"]
from IPython.display import Markdown, display

from xlnb import artifacts
from xlnb.chapters import many_comparisons, power, reading_answers, words
from xlnb.evaluation.readings import EXPRESSION, PRIMARY
from xlnb.studies import experiments, validation
from xlnb.studies.comparisons import by_situations
from xlnb.studies.study import open_study

display(Markdown(words.versions_line(artifacts.versions())))

# %% tags=["parameters"]
profile: str = "pocket"  # Gemma 3 270M; or smoke: random, for tests
live: bool = False  # True computes what is missing: 40 min on two cores
language: str = "sw"  # the target language
seed: int = 0  # of the live training; committed results have several
device: str = "auto"  # auto, cpu, cuda, cuda:1
dtype: str = "float32"  # or bfloat16: autocast

# %% [markdown]
# ## What can be measured
#
# The paper's metric is the *final number right*. A small model's is so rarely right that a difference drowns. Four kinds of metric
# need no written answer. A *likelihood* (NLL) says how surprised the model is by the right solution, in nats per token. *Information
# gained* is what the problem adds to that: how much less surprised the model is given the problem itself than given another one; zero
# for a model that reads nothing. A *forced choice* offers the right calculation beside the other operations on the same numbers.
# *Twins* are two problems with the same numbers and nearly the same words: how much likelier the calculations are by their own text
# than by the twin's (*information gained on the twin*) comes from words alone, and whoever reads only numbers tells none apart.
# Likelihoods also come *calibrated*, at the one temperature that fits a model on other development problems, since plain ones punish
# whoever is sure. All are defined here:

# %% tags=["hide-cell"]
display(measuring.metrics_table())
display(measuring.choices_table(language))

# %% [markdown]
# ## Which of them measures calculation?
#
# An **oracle** is what the paper's setting forbids: it was trained on word problems in the target language, for a quarter, half and all
# of the steps. A **placebo** had the oracle's training with each solution given *another* problem: it learned how solutions look and
# nothing to calculate. A good metric puts base and oracles in order and is not impressed by the placebo (Figure 1). These are
# development problems, and no merge is among these models, so the choice can favour none.

# %%
study = open_study(profile, language, seed, live, device, dtype)
outcomes = study.repeated(experiments.VALIDATION)
own = study.outcomes(experiments.VALIDATION) if live else None
measuring.validation_figure(outcomes, number=1, own=own)

# %% [markdown]
# Does a metric measure *understanding*, though? Whoever sees a problem's numbers and none of its words can gain a lot by most of
# them. Behind the twin's text the numbers are right and the words are wrong: what the oracle gains on the calculations with that text
# in the place of their own, the numbers alone give. Table 1 has what each metric is worth, and that share.

# %% tags=["remove-input"]
worth = validation.worth_of_metrics(outcomes, study.costs())
measuring.validation_table(worth, number=1)

# %% [markdown]
# **The rule** for the primary metric: of those by which the oracle gains significantly, that are in order in every training, and that
# give the placebo, and a reader of the numbers alone, at most a quarter of the oracle's gain, the one that takes the least time.

# %%
validation.best_metric(worth, most=0.25)

# %% tags=["remove-input"]
told = words.caveat(profile) + measuring.validation_reading(worth)
display(Markdown(told))

# %% [markdown]
# The rule was written down before any model was trained on these problems; that numbers count was added to an older rule.
#
# **Change this:** allow placebo and numbers half of the oracle's gain, or all of it (`most=1`). Is a metric named? Look in Table 1 for
# what keeps the others out.
#
# ## Twins
#
# A metric of understanding is of no use if nobody understands. How well does an oracle, which learned from problems in the language
# itself, tell twins apart?

# %% tags=["remove-input"]
display(
    Markdown(words.caveat(profile) + measuring.twins_sentence(outcomes))
)

# %% [markdown]
# Its own text over the twin's gives a problem's calculations a little more the longer an oracle was trained (significant it is not:
# Table 1), yet in Swahili no oracle tells more twins apart than a coin. With fifty situations and a few minutes this model learns
# where the numbers of a calculation come from, and hardly which operation the words ask for. Is that beyond it? Table 2 has what the
# search for budgets ([Base and data](01-base-and-data.ipynb)) tried in English: more situations, longer training, and of a solution
# nothing to learn but its first calculation.

# %% tags=["remove-input"]
budgets.reading_table(number=2)

# %% tags=["remove-input"]
display(Markdown(budgets.reading_sentence()))

# %% [markdown]
# So twins are not beyond this model. The one training that beats a coin had more situations, more steps, and of a solution nothing
# but its first calculation to learn. More situations and more steps without the last do not beat it; which of the three it takes was
# not tried one by one. And whoever only counts words does as well there: the operation is learned, and whether the text is
# *understood* stays open. What is told apart in English and not in another language is the gap that a language expert, or a swap,
# would have to close. Most experts of the other chapters were trained by the shorter budget, and are scored on other situations than
# those of Table 2:

# %% tags=["remove-input"]
display(Markdown(measuring.experts_apart()))

# %% [markdown]
# What merging does to an expert that beats a coin is not measured.
#
# ## Can they be bluffed?
#
# Somebody who had no part in these metrics was asked to score well by them *without* understanding, and without any model: by numbers, by
# confidence, by the worked examples, by length, by a single word, by memory. Table 3 has the attempts, and a reader who understands and
# slips on one page in twenty.

# %% tags=["remove-input"]
bluffing.bluffs_table(language, number=3)

# %% tags=["remove-input"]
display(Markdown(bluffing.bluffs_sentence(language)))

# %% tags=["hide-cell"]
bluffing.bluffs_table(language, calibration=True)

# %% [markdown]
# Information gained can be bluffed, and whoever is twice as sure of the numbers gains still more: one of its two terms is the
# surprise given another problem, which costs the bluffer nothing. To calibrate each model by one temperature is no cure (folded
# above). Twins stand against these (counting words after many situations, as in Table 2, is no trick but a shallow way to read, and
# passes them), with one leak: from the second calculation on, a solution's own sentences share more words with its own text than with
# the twin's (*words of the solution*). And a fixed preference tells no twins apart, a coin tossed anew for each text a quarter: who
# tells fewer apart than a coin is steadier, not worse.
#
# ## Other languages
#
# Is it the same in another script? Table 4 has the languages in which oracles were trained.

# %% tags=["remove-input"]
everywhere, costs = measuring.committed_validation()
languages = validation.by_language(everywhere, costs)
measuring.by_language_table(languages, number=4)

# %% tags=["remove-input"]
display(Markdown(measuring.by_language_reading(languages)))

# %% [markdown]
# ## Are answers read right?
#
# To read the final number sounds trivial. It is not: a model may write it in its own script, with the separators of its language, with a
# currency, a full stop or a sentence after it. Table 5 has answers that all say 18, read by `xlnb.extract_number` and by both filters of
# lm-evaluation-harness, the tool that most papers use.

# %%
answers = [
    ("en", "The answer is $18.00 a day.", 18),
    ("sw", "Jibu ni shilingi 18 kila siku, si 20.", 18),
    ("bn", "উত্তর হল 18।", 18),
    ("bn", "উত্তর হল ১৮।", 18),
    ("te", "సమాధానం ౧౮.", 18),
]
reading_answers.ways_table(answers, number=5)

# %% [markdown]
# **Change this:** add an answer in a language that you know, as a person would write it. Which reader gets it?
#
# The strict filter looks for English words in Bengali answers, native digits never count, and text is compared, so that 18.00 is not 18.
# How much does that matter for what models really write? Table 6 has the answers of the models above, read by both.

# %% tags=["remove-input"]
answers = reading_answers.reread(everywhere)
reading_answers.referee_table(answers, number=6)

# %% [markdown]
# A language in which right answers count as wrong looks weak whatever the method. More answers, those on which the two readers differ,
# and the gold solutions as a check of both:

# %% tags=["hide-cell"]
display(reading_answers.ways_table())
display(reading_answers.referee_examples(answers))
display(reading_answers.gold_table(reading_answers.gold_readings()))

# %% [markdown]
# ## How much does it take to see three points?
#
# A difference between two models varies from problem to problem and from training to training. The first kind of noise shrinks with more
# problems, the second only with more trainings (Table 7).

# %% tags=["remove-input"]
noise = {
    metric: validation.noise(outcomes, metric)
    for metric in (PRIMARY, EXPRESSION)
}
power.noise_table(noise, number=7)

# %% [markdown]
# Three points would be a good result for a method. Would MGSM's 250 problems show them? Say two larger models of about 50 % differ on
# one problem in five, and trainings by one point. In JupyterLab the controls below answer for other differences (in points, or
# hundredths of a nat) and for the noise measured here; on paper, Table 8.

# %% tags=["remove-input"]
measured = {
    "exact match, assumed": power.ASSUMED,
    "calculations right, measured": noise[EXPRESSION],
    "information gained, measured": noise[PRIMARY],
}

# %%
power.power_calculator(measured, difference=0.03, number=8)

# %% tags=["remove-input"]
told = power.needed_sentence(
    power.ASSUMED, 0.03, (3, 5, 10), "three points"
)
display(Markdown(told))

# %% [markdown]
# A score of 250 problems does not show three points. That is no reason not to look, but a reason not to rank methods by it. The primary
# metric does better; what it takes to see a quarter of the oracle's gain, and three points of *calculations right* with the noise of our
# model:

# %% tags=["hide-cell"]
gain = worth.set_index("metric")["gain"][PRIMARY]
display(
    power.power_table(
        noise[PRIMARY],
        gain / 4,
        (25, 50, 100, 200),
        (3, 5, 10),
        "a quarter of the oracle’s gain by the primary metric",
    )
)
display(
    power.power_table(
        noise[EXPRESSION],
        0.03,
        (100, 250, 1000, 4000),
        (3, 5, 10),
        "three points of calculations right",
    )
)

# %% [markdown]
# ## Few trainings, many comparisons
#
# Three trainings say little of how trainings differ. The intervals of this book allow for that: they add the uncertainty over trainings,
# by Student's t, to that over problems. Do they hold what they promise?

# %% tags=["remove-input"]
told = power.error_rate_sentence((3, 5, 10), noise[PRIMARY], problems=200)
display(Markdown(told))

# %% [markdown]
# And whoever makes twenty comparisons must expect one by chance. So every comparison of methods or metrics with a verdict belongs to
# a *family* that was declared with all its contrasts, and verdicts are corrected by Holm's method over the whole family (Table 9). F1
# and F5 are decided by rules of their own ([Importance](03-importance.ipynb), [Linearity](08-linearity.ipynb)). *Significant* means:
# the interval excludes zero, and the corrected p is below 5 %. A contrast of fewer than three trainings gets no verdict; where no
# training is compared, as in the base with and without worked examples, none is needed.

# %% tags=["remove-input"]
families = many_comparisons.judged_families()
situations = many_comparisons.judged_families(by_situations)
many_comparisons.families_table(families, situations, number=9)

# %% tags=["remove-input"]
display(Markdown(many_comparisons.families_sentence(families)))

# %% [markdown]
# An interval over problems asks about other problems *of the same situations*, and problems of one situation share their words. What if
# situations are drawn, and not problems?

# %% tags=["remove-input"]
display(
    Markdown(many_comparisons.situations_sentence(families, situations))
)

# %% [markdown]
# An aside: papers often test two models by McNemar's method, which asks on which problems just one of them is right. That is another
# question, about these two models and not about another training of them:

# %% tags=["remove-input"]
told = power.mcnemar_sentence(
    outcomes, EXPRESSION, "oracle", "base", language, seed
)
display(Markdown(told))

# %% [markdown]
# ## Exercises
#
# 1. With MGSM's 250 problems, how many trainings give a power of 80 % for three points?
#
# <details><summary>Solution</summary>
#
# ```python
# from xlnb import stats
#
# [
#     round(stats.power(0.03, power.ASSUMED, 250, count), 2)
#     for count in (3, 10, 100, 1000)
# ]
# ```
#
# None: power hardly rises beyond ten trainings. What is left is the noise of the problems, and there are no more of them.
#
# </details>
#
# 2. Find an answer that a person reads as 18 and `xlnb.extract_number` does not.
#
# <details><summary>Solution</summary>
#
# ```python
# from xlnb.evaluation.answers import extract_number
#
# extract_number("The answer is eighteen.", "en")
# ```
#
# Nothing is read: numbers in words are none to either reader. A model that writes them would look weak.
#
# </details>
#
# ## Summary

# %% tags=["remove-input"]
told = words.caveat(profile) + measuring.summary(worth, languages, answers)
display(Markdown(told))

# %% [markdown]
# **What would change our mind:** oracle and placebo come from our own grammar. A metric that orders them may still miss what problems
# written by people ask for, and at seven billion parameters exact match is no longer at the floor. Information gained also rises with
# confidence: a sharper model is more surprised given a wrong problem. Where it and the plain likelihood disagree, both are shown.
#
# Before: [Base and data](01-base-and-data.ipynb). Next: [Importance](03-importance.ipynb).
