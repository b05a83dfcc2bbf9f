# The front end. `make` shows what there is. For GNU Make 3.81 (macOS) and newer.
#
# What the user gives reaches the shell through the environment, never through the text of a rule: quotes, spaces and
# dollar signs in TEXT="…" stay what they are. No path of the user's is ever a target or a prerequisite.

# A recipe of one of these names is refused by `check`, which reads them from schemas/targets.json (a test compares).
TARGETS := help setup run check plan preprocess generate train merge evaluate export step chat serve predict show report status list graph \
           explain clean gc test test-all lint docs bench
VERBS := preprocess generate train merge evaluate export

# Every recipe is a target too. A file name that Make would read as something else is left to `check`.
odd = $(strip $(foreach sign,: ; % = |,$(findstring $(sign),$(1))))
RECIPES := $(filter-out $(TARGETS),$(foreach name,$(patsubst recipes/%.yaml,%,$(wildcard recipes/*.yaml)),$(if $(call odd,$(name)),,$(name))))

.PHONY: $(TARGETS) $(RECIPES)
.SUFFIXES:
MAKEFLAGS += -rR --no-print-directory
MAKEOVERRIDES :=

# Short, so a stray one in the environment must not change what is made: these count on the command line only.
SHORT := R V S C J K M PAIR FILE FIRST SHARD SEED HOST PORT NAMES
# These may also stand in the environment, ARTIFACTS and DATASETS in .env as well.
LONG := SET TEXT CHECKPOINT FORMAT ROWS LAUNCH ARTIFACTS DATASETS VENV PYTHON PERSONA_PYTHON TORCH_INDEX VERBOSE
VENV ?= .venv
PYTHON ?= python3
define given
ifneq ($(origin $(1)),undefined)
override $(1) := $$(value $(1))
export $(1)
endif
endef
$(foreach name,$(SHORT),$(eval override $(name) := $$(if $$(filter command,$$(origin $(name))),$$(value $(name)))))
$(foreach name,$(LONG),$(eval $(call given,$(name))))
export $(SHORT)

# Shell text at the head of a rule: $(call ready,full) sets up what is missing or older than what it was made from, and
# leaves the interpreter in $python. install.py compares contents, so a touched file installs nothing.
define ready
python=$${PERSONA_PYTHON:-$$VENV/bin/python}; case $$python in /*) ;; */*) python=$$PWD/$$python ;; esac; \
stamp=$$VENV/$(1).stamp; \
if [ -z "$$PERSONA_PYTHON" ] && ! { [ -z "$$TORCH_INDEX" ] && [ -x "$$python" ] && [ "$$stamp" -nt pyproject.toml ] && \
  [ "$$stamp" -nt constraints.txt ] && [ "$$stamp" -nt schemas/models.json ]; }; then $(call install,$(1)); fi
endef
define install
command -v "$$PYTHON" > /dev/null || { echo "$$PYTHON: not found. Install Python 3.11 or newer, or say where it is: PYTHON=/path/to/python3.12" >&2; exit 1; }; \
"$$PYTHON" -I runner/install.py $(1) || exit $$?
endef
light = $(call ready,light);
full = $(call ready,full);
runner = "$$python" -m runner
recipe = "$${R:-quickstart}" --variant "$$V" --set "$$SET"

# $recipe and $goal in, all of it made: the runner writes the plan, Make keeps its order (with -j as given, or J=n).
# A recipe that cannot be planned ends here, so an old plan never runs.
define make-it
$(full) plan=$$($(runner) plan "$$recipe" --variant "$$V" --set "$$SET" --target "$$goal" --make) || exit $$?; \
PERSONA_ROOT=$$PWD PERSONA_PYTHON=$$python PERSONA_PLAN=$$plan PERSONA_GOAL=$$goal \
$(MAKE) -C "$${plan%/plans/*}" -f "plans/$${plan##*/}" $${J:+-j"$$J"} "$$goal"
endef

help:
	@printf 'Makes persona models from the recipes in recipes/.\n\nRecipes\n'
	@set -- recipes/*.yaml; [ ! -e "$$1" ] || awk ' \
	  FNR == 1 { name = FILENAME; sub(/.*\//, "", name); sub(/\.yaml$$/, "", name); names[++count] = name } \
	  /^title:/ && !(name in titles) { sub(/^title: */, ""); gsub(/^"|"$$/, ""); titles[name] = $$0 } \
	  END { for (i = 1; i <= count; i++) printf "  make %-24s %s\n", names[i], titles[names[i]] }' "$$@"
	@awk -F ' *[|] ' '/^## / { sub(/^## */, "", $$1); printf "  %-29s %s\n", $$1, $$2 } /^### / { sub(/^### /, ""); print "\n" $$0 }' Makefile

### Targets
## make                       | this help
## make setup                 | what run and test do first: .venv, the packages, the bundled models
setup:
	@if [ -n "$$PERSONA_PYTHON" ]; then echo "PERSONA_PYTHON is used as it is: $$PERSONA_PYTHON"; else $(call install,full); fi

## make run R=name            | all of a recipe (quickstart without R=); the same: make name
run:
	+@recipe=$${R:-quickstart}; goal=all; $(make-it)
$(RECIPES):
	+@recipe=$@; goal=all; $(make-it)

## make check R=name          | prove a recipe, or all of them, before anything runs
check:
	@$(light) $(runner) check $$R $${FORMAT:+--format "$$FORMAT"}

## make plan R=name           | what would run, and why
plan:
	@$(light) $(runner) plan $(recipe)

## make train R=name          | that verb's steps and what they need; so preprocess, generate, merge, evaluate, export
$(VERBS):
	+@recipe=$${R:-quickstart}; goal=$@; $(make-it)

## make step R=name S=step    | one step and what it needs; the same: make name/step; FIRST=5: the first rows of a generate step
step:
	+@if [ -n "$$FIRST" ]; then : $${S:?which one? make step R=name S=step FIRST=5}; $(full) exec $(runner) first $(recipe) --rows "$$FIRST" -- "$$S"; fi; \
	recipe=$${R:-quickstart}; goal=step/$${S:?which one? make step R=name S=step}; $(make-it)

## make chat R=name           | talk in the terminal
chat:
	@$(full) $(runner) chat $(recipe) $${C:+--entry "$$C"} $${TEXT:+--text "$$TEXT"} $${CHECKPOINT:+--checkpoint "$$CHECKPOINT"} $${SEED:+--seed "$$SEED"}

## make serve R=name          | a chat page and an OpenAI-compatible API, for this machine alone
serve:
	@$(full) exec $(runner) serve $(recipe) $${HOST:+--host "$$HOST"} $${PORT:+--port "$$PORT"} $${NAMES:+--names "$$NAMES"} $${CHECKPOINT:+--checkpoint "$$CHECKPOINT"}

## make predict R=name M=step  | what a classifier says of TEXT="…", or of each text in FILE=
predict:
	@: $${M:?which one? make predict R=name M=step TEXT="…"}; $(full) $(runner) predict $(recipe) $${TEXT:+--text "$$TEXT"} $${PAIR:+--pair "$$PAIR"} \
	$${FILE:+--file "$$FILE"} $${CHECKPOINT:+--checkpoint "$$CHECKPOINT"} $${FORMAT:+--format "$$FORMAT"} -- "$$M"

## make show R=name S=step    | the first rows; for training: the text with what is learned marked
show:
	@: $${S:?which one? make show R=name S=step}; $(full) $(runner) show $(recipe) $${ROWS:+--rows "$$ROWS"} -- "$$S"

## make status R=name         | every step: made or not, its rows, its time
status:
	@$(light) $(runner) status $(recipe)

## make report R=name         | one page of all that was found; R=a,b compares two recipes, or a,a@variant
report:
	@$(full) $(runner) report $(recipe)

## make list                  | recipes and their variants
list:
	@$(light) $(runner) list

## make graph R=name          | the steps as a Mermaid graph; FORMAT=svg as a picture
graph:
	@$(light) $(runner) graph $(recipe) $${FORMAT:+--format "$$FORMAT"}

## make explain K=train.sft   | the keys that a kind of step takes
explain:
	@: $${K:?which one? make explain K=train.sft}; $(light) $(runner) explain -- "$$K"

## make clean R=name          | remove what was made for a recipe and no other needs
clean:
	@: $${R:?which one? make clean R=name}; $(light) $(runner) clean -- "$$R"

## make gc                    | remove what no recipe reaches
gc:
	@$(light) $(runner) gc

### For who works on it
## make test                  | lint and the tests
test: lint
	@$(full) $(bare) "$$python" -m pytest -m 'not slow'

## make test-all              | the slow tests too; what they need must be there
test-all: lint
	@$(full) $(bare) PERSONA_INSIST=1 "$$python" -m pytest

## make lint                  | ruff, mypy, and whether the written pages are fresh
lint:
	@$(full) "$$python" -m ruff check --quiet . && "$$python" -m ruff format --check --quiet . && "$$python" -m mypy --no-error-summary && $(runner) docs --check

## make docs                  | write the editor schema and the reference from schemas/
docs:
	@$(light) $(runner) docs

## make bench                 | how long the everyday commands take
bench:
	@$(full) $(bare) "$$python" tests/bench.py && $(bare) "$$python" tests/bench_dedup.py && $(bare) "$$python" tests/bench_generate.py && $(bare) "$$python" tests/bench_decoding.py && $(bare) "$$python" tests/bench_readers.py && $(bare) "$$python" tests/bench_sft.py

### Variables
## V=smoke  V=smoke,gpu       | variants of the recipe
## SET="steps.voice.epochs=1" | single values
## J=4                        | so many steps at a time
## C=entry TEXT="Hello"       | for chat: which entry; one prompt instead of a talk; CHECKPOINT=best or final; SEED=1
## HOST=0.0.0.0 PORT=8000     | for serve: who may reach it, and where; NAMES=chat.example.org: what it may be called
## SHARD=2/3                  | the second of three shares of a generate step; the last one puts them together
## M=step TEXT="…" FILE=       | for predict: which model, and the text, or a file of texts (PAIR= for a model of pairs)
## FORMAT=json ROWS=9         | for check: json or github; for graph: svg; for show: how many rows
## ARTIFACTS= DATASETS=       | where both folders lie; also read from .env
## LAUNCH='srun -p gpu'       | in front of every step's command
## VENV= PYTHON=              | where the environment is made, and with which Python (3.11 or newer)
## TORCH_INDEX=               | where torch comes from: https://download.pytorch.org/whl/cpu has builds for the CPU
## PERSONA_PYTHON=            | an environment of your own, used as it is; VERBOSE=1 shows what set-up does

# The tests run make and the runner themselves: with the environment of whoever called make, not with that of this one.
bare = env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL -u MAKEOVERRIDES $(foreach name,$(SHORT) $(LONG),-u $(name))

# name/step, and what is no target at all.
.DEFAULT:
	+@case $@ in \
	?*/?*) recipe=$@; goal=step/$${recipe#*/}; recipe=$${recipe%%/*}; $(make-it) ;; \
	*) echo "$@: no recipe and no target of that name. make shows both." >&2; exit 2 ;; \
	esac
