#!/usr/bin/env bash
# First minutes on a GPU: what it is, whether everything is right on it, and how fast. Run from the kit's folder (build-kit.ts) with Node
# and `webgpu` in reach; every result is a file in OUT, and a step that fails does not stop the others.
#
#   bench/experiment/first-contact.sh KIT OUT            the protocol's size
#   QUICK=1 bench/experiment/first-contact.sh KIT OUT    a size for a rehearsal on a CPU
set -u
kit=${1:?usage: first-contact.sh KIT OUT}
out=${2:?usage: first-contact.sh KIT OUT}
mkdir -p "$out"
wgrad="$kit/wgrad/dist/train/cli.js"
if [ -n "${QUICK:-}" ]; then
  size='--size 32 --features 4,8,16 --batch 4'; tune="$size"; tests='ops/softmax ops/conv. model'; steps=3; conv='4-8@16'; few='--rounds 1'
else
  size='--size 256 --features 16,32,64,128,256 --batch 24'; tune="$size"; tests='engine ops fusion model shaders train/trainer train/metrics'; steps=50; conv=unet; few=''
fi

part() { # NAME COMMAND…: stdout in OUT/NAME.txt, stderr in OUT/NAME.log, a line about it here
  local name=$1 begin=$SECONDS; shift
  "$@" >"$out/$name.txt" 2>"$out/$name.log"
  echo "$name: exit $?, $((SECONDS - begin)) s"
}
part info node "$wgrad" info
part tests node "$kit/wgrad/dist/test/run.js" $tests
tail -1 "$out/tests.txt"
part step-f32 node "$wgrad" bench step $size --profile --json
part step-f16 node "$wgrad" bench step $size --precision f16 --profile --json
part export node "$wgrad" bench peers --work step $size --export "$out/work"
command -v python3 >/dev/null && part pytorch python3 "$kit/wgrad/bench/pytorch/step.py" "$out/work" --steps $steps
rm -rf "$out/work"
part tune timeout 150 node "$wgrad" bench --tune $tune
part tune-f16 timeout 150 node "$wgrad" bench --tune $tune --precision f16
part table node "$wgrad" bench --tune $tune --print-table
part step-f32-tuned node "$wgrad" bench step $size --profile --json
part step-f16-tuned node "$wgrad" bench step $size --precision f16 --profile --json
part kernels node "$wgrad" bench kernels $size --json
part peers-conv node "$wgrad" bench peers --work conv --shapes $conv $few --json
part peers-step node "$wgrad" bench peers --work step $size $few --json
tar -C "$out" -czf "$out/results.tgz" --exclude=results.tgz .
