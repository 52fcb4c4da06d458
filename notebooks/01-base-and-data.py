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
# **Can the base model do the task at all, and what exactly are the data?**
#
# Before anybody trains, swaps or merges, two things must be known. If the base cannot read a word problem at all, a later gain is
# perhaps only the format. And if the problems that are scored resemble those trained on too closely, a gain is perhaps only
# memory. This chapter looks at both. [The chapter before](00-a-first-swap.ipynb) told the whole story once.

# %%
from IPython.display import Markdown, display

from xlnb import artifacts
from xlnb.chapters import base_and_data, words
from xlnb.studies import experiments, outcomes as results
from xlnb.studies.study import open_study

_ = display(Markdown(words.versions_line(artifacts.versions())))

# %% tags=["parameters"]
profile: str = "pocket"  # Gemma 3 270M; or smoke: random, for tests
live: bool = False  # True computes what is missing: 4 min on two cores
language: str = "sw"  # the target language
seed: int = 0  # decides which training examples are drawn
device: str = "auto"  # auto, cpu, cuda, cuda:1
dtype: str = "float32"  # or bfloat16: autocast

# %% [markdown]
# ## The word problems
#
# The `templates` corpus is a grammar. A *frame* is a situation with its wording in every language; names, things and numbers are
# drawn. Because one frame holds all languages, the problems are parallel by construction: the same people buy the same things for
# the same price in English and in Swahili. Some of the frames that are scored:

# %%
_ = display(base_and_data.parallel_problems(language, "scored", 4))

# %% [markdown]
# One of them in every language that the corpus has, with names, things and money of the place:

# %%
_ = display(base_and_data.one_problem_everywhere("scored"))

# %% [markdown]
# Numbers keep the digits 0 to 9, as in MGSM. The wordings are text files, one a language with the frames side by side, made to be
# read and corrected by people who speak it. What their authors know to be weak stands at their head; of this language:

# %%
_ = display(Markdown(base_and_data.weaknesses(language)))

# %% [markdown]
# Frames, names, things and numbers are divided among four splits. *Train* is for the experts (in English only), *few-shot* for the worked
# examples before each problem, *development* for our own choices, *scored* for the results. No situation, no name, no thing
# and no set of numbers is in two of them. So no scored problem has been seen in training, though its kind of calculation (say, a sum
# and then a division) has.

# %%
_ = display(base_and_data.splits_table())

# %%
_ = base_and_data.difficulty_figure(base_and_data.step_shares())

# %%
_ = display(Markdown(base_and_data.difficulty_sentence()))

# %% [markdown]
# ## The language data
#
# What the language expert reads is generic: it is told to translate, continue a story, describe a place, answer politely. There is no
# arithmetic in it and not one digit, and its prompts look different from the problems'. The second point matters: language data in
# the very format of the problems, but without calculations, would teach the model *not* to calculate there.

# %%
_ = display(base_and_data.language_samples(language, seed))

# %% [markdown]
# Every target language has its own set, written for its grammar:

# %%
_ = display(base_and_data.generic_table())

# %% [markdown]
# ## Other corpora, by name
#
# The paper trained on public sets. These can be named wherever ours stand (`xlnb corpus` shows what is in one, `xlnb train
# --language-data ntrex:FOLDER` learns from a local copy); all are brought to the same form, filtered, counted and fingerprinted.
# The loaders are tested on small files in the sets' own formats; **nothing was downloaded from the hub for this book**, and no
# result in it comes from them.

# %%
_ = display(base_and_data.corpora_table())

# %% [markdown]
# ## Can the base do it?
#
# The base is shown none, one or two worked examples before each problem. Without any, a score measures mostly whether the model
# guesses our format. These are development problems: the scored ones are not looked at for choices.

# %%
study = open_study(profile, language, seed, live, device, dtype)
by_shots = study.outcomes(*experiments.BY_SHOTS)
_ = base_and_data.shots_figure(results.scores(by_shots))

# %%
told = words.caveat(profile) + base_and_data.shots_reading(
    by_shots, language
)
_ = display(Markdown(told))

# %% [markdown]
# ## The base on the scored problems
#
# With two worked examples, which is what the whole book uses:

# %%
base = study.outcomes(experiments.BASE)
_ = display(words.scores_table(results.scores(base)))

# %% [markdown]
# Where does it fail? The share of problems whose calculations are right, by the number of steps, and some of the answers as they
# came out:

# %%
_ = display(base_and_data.by_steps_table(base))

# %%
_ = display(base_and_data.answer_samples(base, language, 6))

# %% [markdown]
# ## Summary

# %%
_ = display(Markdown(base_and_data.base_summary(base, language)))

# %% [markdown]
# - **What would change our mind:** the grammar's situations are few and its translations have not been read by native speakers.
#   Problems written by people, such as MGSM's, are the harder test.
#
# Before: [A first swap](00-a-first-swap.ipynb). Next: [Measuring](02-measuring.ipynb).
