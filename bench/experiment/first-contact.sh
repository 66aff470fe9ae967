#!/usr/bin/env bash
# First minutes on a GPU: what it is, how fast everything is on it, and whether it is right. Run from the kit's folder (build-kit.ts) with
# Node and `webgpu` in reach. The most important comes first, every part has a limit, and what is known is packed after each part: whoever
# is cut off keeps the rest. A part that fails does not stop the others. On a card all of it takes about six minutes.
#
#   bench/experiment/first-contact.sh KIT OUT            the protocol's size; LIMIT=SECONDS for all parts together (default 380)
#   QUICK=1 bench/experiment/first-contact.sh KIT OUT    a size for a rehearsal on a CPU, without limits to speak of
set -u
kit=${1:?usage: first-contact.sh KIT OUT}
out=${2:?usage: first-contact.sh KIT OUT}
mkdir -p "$out"
wgrad="$kit/wgrad/dist/train/cli.js"
pytorch="$kit/wgrad/bench/pytorch/step.py"
if [ -n "${QUICK:-}" ]; then
  limit=${LIMIT:-3000}; slower=10; size='--size 32 --features 4,8,16 --batch 4'; steps=3; conv='4-8@16'; rounds=1; modes=f32
  volumes='--patch 8,16,16 --features 2,4 --batch 2'
  tests=('ops/softmax' 'ops/division' 'model')
else
  limit=${LIMIT:-380}; slower=1; size='--size 256 --features 16,32,64,128,256 --batch 24'; steps=40; conv=unet; rounds=5; modes=f32,tf32,amp
  volumes='--protocol la'
  # Groups that run beside each other, by parts of the files' paths.
  tests=('engine/' 'ops/conv ops/a ops/b' 'ops/ca ops/concat ops/cr ops/d ops/g ops/i ops/l' 'ops/ma ops/me'
    'ops/n ops/o ops/p ops/r ops/s ops/u ops/v' 'fusion fuzz' 'model vnet shaders gpu-defaults' 'grouped train/metrics train/volumes'
    'train/trainer train/precision')
fi

packed=$(mktemp)
save() { # in one move: whoever copies it meets a whole one
  tar -C "$out" -czf "$packed" --exclude=./results.tgz --exclude=./work . && cp "$packed" "$out/results.new" && mv "$out/results.new" "$out/results.tgz"
}

part() { # NAME SECONDS COMMAND…: stdout in OUT/NAME.txt, stderr in OUT/NAME.log, a line about it here
  local name=$1 most=$(($2 * slower)) left=$((limit - SECONDS)) begin=$SECONDS; shift 2
  if ((left < 3)); then echo "$name: left out, no time"; return; fi
  timeout -k 5 $((most < left ? most : left)) "$@" >"$out/$name.txt" 2>"$out/$name.log"
  echo "$name: exit $?, $((SECONDS - begin)) s"
  save
}

paper() { # PRECISION FLAGS…: what the kernels take, against what a compiler said of them without a card; as a table and as JSON
  local name=paper-$1 with=(--results "$kit/wgrad/bench/results" --measured "$out/step-$1.txt" "${@:2}")
  part "$name" 10 node "$wgrad" bench paper "${with[@]}"
  part "$name-json" 10 node "$wgrad" bench paper "${with[@]}" --json
  grep -h '^expected: \|^only ' "$out/$name.txt"
}

beside() { # the groups of tests, each in a process of its own
  local group n=0
  for group in "${tests[@]}"; do
    n=$((n + 1))
    # shellcheck disable=SC2086
    timeout -k 5 $((80 * slower)) node "$kit/wgrad/dist/test/run.js" $group >"$out/tests-$n.txt" 2>"$out/tests-$n.log" &
  done
  wait
  for ((n = 1; n <= ${#tests[@]}; n++)); do echo "${tests[n - 1]}: $(tail -n 1 "$out/tests-$n.txt")"; done
  grep -h '^FAILED\|^   FAIL' "$out"/tests-*.txt
}

# shellcheck disable=SC2086
{
  part info 20 node "$wgrad" info --check
  part step-f32 40 node "$wgrad" bench step $size --repeats $steps --json
  part step-f16 40 node "$wgrad" bench step $size --precision f16 --repeats $steps --json
  # In f16 a card gets matrix units.
  paper f32
  paper f16 --matrix
  part export 40 node "$wgrad" bench peers --work step $size --export "$out/work"
  command -v python3 >/dev/null && part pytorch 60 python3 "$pytorch" "$out/work" --steps $steps --modes $modes
  part tune 50 node "$wgrad" bench --tune $size
  part tune-f16 50 node "$wgrad" bench --tune $size --precision f16
  part step-f32-tuned 30 node "$wgrad" bench step $size --repeats $steps --json
  part step-f16-tuned 30 node "$wgrad" bench step $size --precision f16 --repeats $steps --json
  part table 15 node "$wgrad" bench --tune $size --print-table
  part peers-step 60 node "$wgrad" bench peers --work step $size --rounds $rounds --json
  if ((limit - SECONDS > 10)); then
    begin=$SECONDS
    beside >"$out/tests.txt" 2>&1
    echo "tests: $((SECONDS - begin)) s"; cat "$out/tests.txt"; save
  fi
  part kernels 30 node "$wgrad" bench kernels $size --json
  part volumes-f32 30 node "$wgrad" bench step $volumes --method lccs --repeats 5 --json
  part volumes-f16 30 node "$wgrad" bench step $volumes --method lccs --precision f16 --repeats 5 --json
  part peers-conv 40 node "$wgrad" bench peers --work conv --shapes $conv --rounds $rounds --json
  # Compilers take minutes; what is done when the time is over is kept.
  command -v python3 >/dev/null && part pytorch-compiled 150 python3 "$pytorch" "$out/work" --steps $steps \
    --modes compile-f32,compile-tf32,compile-amp
}
rm -rf "$out/work" "$packed"
