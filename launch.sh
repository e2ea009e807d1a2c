#!/usr/bin/env bash
# The one door to FocusCLIP-JAX: sets up an environment on first use, then runs a verb in it.
set -euo pipefail

usage() {
  cat <<'HELP'
FocusCLIP-JAX: CLIP with Subject-Focused Attention, from keypoints to zero-shot results.

  ./launch.sh [train] --config=FILE [--workdir=DIR] [--config.a.b=VALUE …]
        Train (or go on with) a model, evaluate it, print the results table and draw pictures.
        Default workdir: runs/NAME of the config file.
  ./launch.sh dry-run --config=FILE [--topology=v5e:4x4] [--batch=N]
        Compile the training step without its hardware or data: memory, communication, time, does it fit?
  ./launch.sh profile --config=FILE [--steps=N] [--out=DIR] [--config.a.b=VALUE …]
        Trace real training steps on what is here, and say on one page where their time goes and what limits
        them. Default folder: profiles/NAME of the config file.
  ./launch.sh evaluate --workdir=DIR [--step=N] [--tasks=A,B] [--data-dir=DIR] [--prompts=ensemble-v1]
        Evaluate a checkpoint on every task whose data is there; --tasks=retrieval,linear_probe,knn asks for
        retrieval between images and descriptions, and for probes of the frozen embeddings.
  ./launch.sh report DIR…
        Results of one or more workdirs side by side, also as a page that needs nothing else (report.html).
  ./launch.sh ablate --config=FILE [--list] [--cells=PATTERN] [--together=N] [--budget-minutes=M]
                     [--report] [--data-dir=DIR]
        Run a grid of methods × conditions × seeds, each cell once, and say what it shows; DIR has your own data,
        for grids on photographs. --together trains up to N seeds at once, in one compiled step. Stopped or
        killed, the same command goes on; --report trains nothing.
  ./launch.sh demo --workdir=DIR [--compare=DIR] [--port=7860]
        A page on this machine: drop a photo, type labels, see which fit and where the models look.
  ./launch.sh import --from=FOLDER_OR_ID --workdir=DIR [--image-size=N] [--context=N]
        A published CLIP (Hugging Face or open_clip, safetensors) as a workdir to evaluate. ID is
        owner/name@revision of the Hugging Face hub.
  ./launch.sh export --workdir=DIR [--step=N] --out=DIR
        A checkpoint as a model for transformers and open_clip.
  ./launch.sh annotate describe --source=FORMAT:PATH --describer=geometry|openai --out=DIR …
        Keypoints and activities to pose descriptions, offline or by a language model.
  ./launch.sh annotate batch submit|collect …
        The same by the files of a batch service, at half the price.
  ./launch.sh annotate import-captions --from=DIR --out=DIR
        The released MPII Pose Descriptions, without paying.
  ./launch.sh annotate pack --journal=DIR --split=NAME --out=DIR …
        Photos, keypoints and descriptions to TFRecord shards.
  ./launch.sh annotate view|stats|export|check-dataset …
        Look at descriptions in a browser, measure them, publish them, count data sets.
        Every verb of annotate has its own --help; docs/annotating.md tells the rest.
  ./launch.sh test [--slow] [PYTEST ARGUMENTS]
        The test suite; --slow adds the tests that take longer.
  ./launch.sh lint
        Check style, formatting and types.

First use makes the environment .venv here with the versions of requirements.txt, for CPU, for CUDA
where nvidia-smi answers, for TPU on a TPU VM. Settings from the shell:
  FOCUSCLIP_PYTHON=python3.12   the Python (3.11 or newer) to make .venv with
  FOCUSCLIP_ENV=active          use the Python on PATH as it is (containers, Colab): nothing is installed
                                until FOCUSCLIP_ENV=active ./launch.sh setup, which installs into it
HELP
}

root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

fail() { echo "error: $*" >&2; exit 2; }

# cpu, cuda12, cuda13 or tpu: the extra of the jax package to install. The driver decides between the CUDAs.
accelerator() {
  if command -v nvidia-smi >/dev/null && nvidia-smi -L >/dev/null 2>&1; then
    if [[ $(nvidia-smi) =~ CUDA\ (UMD\ )?Version:\ *([0-9]+) ]] && ((BASH_REMATCH[2] < 13)); then
      echo cuda12
    else
      echo cuda13
    fi
  elif compgen -G "/dev/accel[0-9]*" >/dev/null || { compgen -G "/dev/vfio/[0-9]*" >/dev/null && [[ -n ${TPU_NAME:-} ]]; }; then
    echo tpu
  else
    echo cpu
  fi
}

# The newest Python on PATH that is at least 3.11 and runs.
find_python() {
  local name
  for name in ${FOCUSCLIP_PYTHON:-python3.13 python3.12 python3.11 python3 python}; do
    if "$name" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$name"
      return
    fi
  done
  fail "no Python 3.11 or newer with venv is on PATH (looked for ${FOCUSCLIP_PYTHON:-python3.13, python3.12, python3.11, python3}); set FOCUSCLIP_PYTHON"
}

# install REQUIREMENTS_FILE: into $python, for this machine's accelerator.
install() {
  local extra
  extra=$(accelerator)
  echo "Installing $(basename "$1") for $extra into $("$python" -c 'import sys; print(sys.prefix)') …" >&2
  local packages=(-r "$1")
  [[ $1 == */requirements-*.txt || $extra == cpu ]] || packages+=("jax[$extra]")
  "$python" -m pip install --disable-pip-version-check "${packages[@]}" >&2 ||
    fail "pip could not install $(basename "$1"); its message is above"
}

# ensure REQUIREMENTS_FILE: make .venv and install, unless the stamp says that exactly this was done.
ensure() {
  if [[ ${FOCUSCLIP_ENV:-} == active ]]; then
    python=${FOCUSCLIP_PYTHON:-python}
    command -v "$python" >/dev/null || python=python3
    return
  fi
  local venv=$root/.venv stamp wanted
  python=$venv/bin/python
  stamp=$venv/$(basename "$1").installed
  wanted="$(accelerator) $(cksum <"$1")"
  if [[ -x $python && -f $stamp && $(<"$stamp") == "$wanted" ]]; then return; fi
  if [[ ! -x $python ]]; then
    local base
    base=$(find_python)
    echo "Making .venv with $("$base" --version) …" >&2
    "$base" -m venv "$venv"
  fi
  install "$1"
  echo "$wanted" >"$stamp"
}

verb=train
case ${1:-} in
  train | dry-run | profile | evaluate | ablate | report | demo | import | export | annotate | test | lint | setup) verb=$1; shift ;;
  -h | --help | help | "") usage; exit 0 ;;
  --*) ;;
  *) fail "unknown verb '$1'; ./launch.sh --help lists them" ;;
esac

export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}
# Large arrays in huge pages, where the kernel gives them when asked: else a step of focusclip_tiny on CPU
# faults in 108,000 small pages, a quarter of its time. glibc before 2.35, and other C libraries, ignore it.
export GLIBC_TUNABLES=${GLIBC_TUNABLES:-glibc.malloc.hugetlb=1}

case $verb in
  setup)
    if [[ ${FOCUSCLIP_ENV:-} == active ]]; then
      ensure "$root/requirements.txt"
      install "$root/requirements.txt"
    else
      ensure "$root/requirements.txt"
    fi
    ;;
  annotate)
    ensure "$root/requirements.txt"
    exec "$python" -m annotation "$@"
    ;;
  demo)
    ensure "$root/requirements.txt"
    ensure "$root/requirements-demo.txt"
    exec "$python" -m focusclip_jax demo "$@"
    ;;
  test)
    ensure "$root/requirements.txt"
    ensure "$root/requirements-dev.txt"
    ensure "$root/requirements-demo.txt"
    marks=(-m "not slow")
    if [[ ${1:-} == --slow ]]; then marks=(); shift; fi
    cd "$root"
    exec "$python" -m pytest "${marks[@]}" "$@"
    ;;
  lint)
    ensure "$root/requirements.txt"
    ensure "$root/requirements-dev.txt"
    cd "$root"
    "$python" -m ruff check .
    "$python" -m ruff format --check .
    exec "$python" -m mypy
    ;;
  train)
    ensure "$root/requirements.txt"
    # The embedded data set is made by the annotation package, as a user would make their own.
    "$python" -m focusclip_jax prepare "$@"
    exec "$python" -m focusclip_jax train "$@"
    ;;
  *)
    ensure "$root/requirements.txt"
    exec "$python" -m focusclip_jax "$verb" "$@"
    ;;
esac
