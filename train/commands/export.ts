// wgrad export: a trained UNet as an ONNX file, for every other runtime. Needs no GPU.
import { existsSync } from 'node:fs';
import { unetOnnx, unetSizes } from '../../model/index.js';
import { writeAtomically } from '../checkpoint.js';
import { readCommandLine } from '../command-line.js';
import { UsageError } from '../config.js';
import { cardiacClasses } from '../data/datasets.js';
import { version } from '../environment.js';
import { readWeights } from '../trained-model.js';

export const help = `
usage: wgrad export --onnx OUT.onnx --run RUN | --weights FILE

Writes the network as ONNX (opset 17), weights included, batch norms in inference mode, no dropout.

  --onnx FILE         where to; FILE must not exist
  --run RUN           a run folder: its best checkpoint
  --weights FILE      a checkpoint
  --model ROLE        student (default), or teacher: of the run's last state
  --fold              batch norms become part of the convolutions before them

Input   image          float32 [batch, 1, height, width]; sides are multiples of 2^(levels − 1); values in [0, 1]: each volume
                       minus its minimum, over its range; slices resized to the size that the file's metadata name
Outputs logits, probabilities float32 [batch, classes, height, width]; labels uint8 [batch, height, width]

Python, onnxruntime:
  session = onnxruntime.InferenceSession('OUT.onnx')
  image = (volume - volume.min()) / (volume.max() - volume.min())        # [slices, size, size] after resizing
  labels, = session.run(['labels'], {'image': image[:, None].astype('float32')})
A page, onnxruntime-web:
  const session = await ort.InferenceSession.create('OUT.onnx');
  const { labels } = await session.run({ image: new ort.Tensor('float32', image, [slices, 1, size, size]) });`;

/** Runs `wgrad export`. */
export async function run(args: string[]): Promise<number> {
  const { flags } = readCommandLine('export', args, {
    onnx: { type: 'string' },
    run: { type: 'string' },
    weights: { type: 'string' },
    model: { type: 'string' },
    fold: { type: 'boolean' },
  });
  const { onnx: out, model: role = 'student', fold = false } = flags;
  if (!out) throw new UsageError('export: --onnx FILE is needed. See wgrad export --help.');
  if (!out.endsWith('.onnx')) throw new UsageError(`export: '${out}' does not end in .onnx.`);
  if (existsSync(out)) throw new UsageError(`export: '${out}' exists. Name another file.`);
  if (role !== 'student' && role !== 'teacher') {
    throw new UsageError(`export: --model is student or teacher — got '${role}'.`);
  }
  const { arrays, config } = readWeights({ ...flags, role });
  const { features, classes, multiple } = unetSizes(arrays);
  const metadata = {
    size: `${config.size}`,
    multiple: `${multiple}`,
    classes: (classes === cardiacClasses.length
      ? cardiacClasses
      : Array.from({ length: classes }, (_, k) => `${k}`)
    ).join(','),
    preprocessing:
      'the volume minus its minimum, divided by its range; slices along z, ' +
      (config.spacing.some((mm) => mm > 0)
        ? `at ${config.spacing.join(' × ')} mm a pixel, cut or padded to size × size`
        : 'resized to size × size, nearest neighbour'),
    method: `${config.method}, ${role}`,
  };
  writeAtomically(out, [unetOnnx(arrays, { fold, version: version(), metadata })]);
  console.error(`${out}: UNet of ${features.join(', ')} features, ${classes} classes, ONNX opset 17`);
  console.log(out);
  return 0;
}
