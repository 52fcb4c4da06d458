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
# # Base and data
#
# After [A first swap](00-a-first-swap.ipynb), which told the story once; before [Measuring](02-measuring.ipynb).

# %% tags=["remove-input"]
from xlnb.chapters import base_and_data

base_and_data.answer()

# %% [markdown]
# **The question.** Can the base model do the task at all, and what exactly are the data? If the base cannot read a word problem, a
# later gain is perhaps only the format. And if the problems that are scored resemble those trained on too closely, a gain is perhaps
# only memory. So we look at the problems and their splits, at what the language expert reads, and at the base's own answers.

# %% tags=["hide-input"]
from IPython.display import Markdown, display

from xlnb import artifacts
from xlnb.chapters import budgets, word_problems, words
from xlnb.studies import experiments, profiles
from xlnb.studies.study import open_study

display(Markdown(words.versions_line(artifacts.versions())))

# %% tags=["parameters"]
profile: str = "pocket"  # Gemma 3 270M; or smoke: random, for tests
live: bool = False  # True computes what is missing: 3 min on two cores
language: str = "sw"  # the target language
seed: int = 0  # decides which training examples are drawn
device: str = "auto"  # auto, cpu, cuda, cuda:1
dtype: str = "float32"  # or bfloat16: autocast

# %% [markdown]
# ## The word problems
#
# The problems are made by a grammar. A *situation* has its wording in every language; names, things and numbers are drawn. So the
# problems are parallel by construction: Table 1 has one situation in four languages, with the same numbers and with names of each place.

# %%
word_problems.one_problem_everywhere("scored", number=1)

# %% [markdown]
# Numbers keep the digits 0 to 9, as in MGSM. The wordings are text files, one a language, made to be corrected by people who speak
# it. Look at some more:

# %%
word_problems.browser(language, split="scored", problem=1)

# %% [markdown]
# **Change this:** in JupyterLab, move the controls; or name another split and problem in the call above. Compare *train* with
# *scored*: no situation comes twice, but the kinds of calculation do.
#
# Situations, names, things and numbers are divided among four splits (Table 2). The math expert learns from many other situations, in
# English alone, each in three wordings, with the names and numbers of *train*. The situations of *train* itself, in the language, are the
# oracle's ([Measuring](02-measuring.ipynb)). The worked examples before each problem are from *few-shot*. Our own choices are made on
# *development*. Results are from *scored*.

# %% tags=["remove-input"]
word_problems.splits_table(number=2)

# %% [markdown]
# The scored problems take about as many calculations as the math expert's (Figure 1).

# %% tags=["remove-input"]
word_problems.difficulty_figure(word_problems.step_shares(), number=1)

# %% tags=["hide-cell"]
display(Markdown(word_problems.difficulty_sentence()))
display(Markdown(word_problems.weaknesses(language)))

# %% [markdown]
# ## Problems that must be read
#
# Could a model solve these without understanding a word? Divisions need numbers that divide, and small numbers are seldom subtracted: in
# ordinary word problems the numbers alone give much away. Here all problems that state as many numbers draw them from one pool, each
# tuple of which may be added, subtracted, multiplied or divided as well; a third of the situations state a number that does not
# matter. And every development and scored problem has a **twin** (Table 3): a few words differ, and with them the operation.

# %%
word_problems.twins_table(language, number=3)

# %% [markdown]
# How far does one get all the same? Table 4 has readers that see the numbers alone, the words alone, both, or look up the nearest
# training question.

# %% tags=["remove-input"]
word_problems.shortcuts_table(language, number=4)

# %% tags=["remove-input"]
display(Markdown(word_problems.shortcuts_sentence(language)))

# %% [markdown]
# In a solution each calculation stands *before* the sentence that says what it means, so that no word gives the first operation away: it
# is read off the problem, or guessed. From the second on a little leaks ([Measuring](02-measuring.ipynb)).
#
# ## The language data
#
# What the language expert reads is prose (Table 5): stories, dialogues, letters, explanations, questions about them and translations,
# written for this book one by one. It is the world of the word problems without calculating: things are given, shared, missing and left
# over, and there is not one digit. Its prompts look different from the problems'. That matters: language data in the very format of the
# problems, but without calculations, would teach the model *not* to calculate there. One piece in ten is held out: half
# of these to choose budgets by, half to measure who knows the language.

# %%
base_and_data.language_samples(language, n=3, number=5)

# %% [markdown]
# Every target language has a set of its own. The paper trained on public sets, which can be named wherever ours stand: `xlnb corpus`
# shows one, and `--language-data ntrex:FOLDER` trains on a local copy. Their loaders are tested on small files in the sets' own formats.
# **Nothing was downloaded from the hub for this book.** Of public sets it uses local copies: NTREX-128 in the search below, and what the
# [scorecard](09-scorecard.ipynb) names under *Problems that people wrote*, as far as that is computed.

# %% tags=["hide-cell"]
display(base_and_data.language_data_table())
display(base_and_data.corpora_table())

# %% [markdown]
# ## How long to train?
#
# By LoRA, single experts take the same number of steps at the same rate (other strengths: [the scorecard](09-scorecard.ipynb)). That
# budget was a first guess. Others were held against it, on development problems and by single experts alone; what language experts
# learned, [The experts](04-experts.ipynb) has.

# %% tags=["remove-input"]
training = profiles.named_profile(profile).training
told = words.caveat(profile) + budgets.search_reading(training)
display(Markdown(told))

# %% tags=["hide-cell"]
for shown in budgets.search_tables(language):
    display(shown)

# %% [markdown]
# ## How many worked examples?
#
# The base is shown none, one or two worked examples before each problem (Figure 2). Without any, a score measures mostly whether the
# model guesses our format. These are development problems: the scored ones are not looked at for choices.

# %%
study = open_study(profile, language, seed, live, device, dtype)
by_shots = study.repeated(*experiments.BY_SHOTS)
base_and_data.shots_figure(by_shots, number=2)

# %% tags=["remove-input"]
told = words.caveat(profile) + base_and_data.shots_sentence(by_shots)
display(Markdown(told))

# %% [markdown]
# The whole book uses two. They are in the problem's language, so there *is* some in-language math in the context, for every model alike.
#
# ## Can the base do it?
#
# Table 6 has the base on the scored problems, in both languages: the same problems, so the difference is taken problem by problem.

# %%
base = study.repeated(experiments.BASE)
base_and_data.base_table(base, number=6)

# %% tags=["remove-input"]
told = words.caveat(profile) + base_and_data.asked_anew(study)
display(Markdown(told))

# %% [markdown]
# Where does it fail? The share of right calculations by the number of steps, and some answers as they came out:

# %% tags=["hide-cell"]
display(base_and_data.by_steps_table(base))
display(base_and_data.answer_samples(base, language, 6))

# %% [markdown]
# ## Exercises
#
# 1. Are the problems really parallel? Compare numbers and calculations of a hundred scored problems in two languages.
#
# <details><summary>Solution</summary>
#
# ```python
# from xlnb.corpora import templates
#
# english, other = (
#     templates.problems(code, "scored", 100) for code in ("en", language)
# )
# pairs = zip(english, other, strict=True)
# all(a.expressions == b.expressions for a, b in pairs)
# ```
#
# True: only the wording differs.
#
# </details>
#
# 2. How many scored problems have the very numbers of one of the math expert's? And how many situations do both have?
#
# <details><summary>Solution</summary>
#
# ```python
# from xlnb.corpora import templates
#
# train = templates.english_problems(400)
# scored = templates.problems("en", "scored", 200)
# numbers = {frozenset(p.numbers) for p in train}
# shared = sum(frozenset(p.numbers) in numbers for p in scored)
# shared, {p.frame for p in train} & {p.frame for p in scored}
# ```
#
# None and none: a hash of the numbers decides which split they belong to.
#
# </details>
#
# ## Summary

# %% tags=["remove-input"]
told = words.caveat(profile) + base_and_data.summary(study)
display(Markdown(told))

# %% [markdown]
# **What would change our mind:** the grammar's situations are few, and its translations have not been read by native speakers. Problems
# written by people, such as MGSM's, are the harder test.
#
# Before: [A first swap](00-a-first-swap.ipynb). Next: [Measuring](02-measuring.ipynb) asks what the scores are worth.
