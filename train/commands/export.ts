// wgrad export: a trained network as an ONNX file, for every other runtime. Needs no GPU.
import { existsSync } from 'node:fs';
import { unetOnnx, unetSizes, vnetOnnx, vnetSizes } from '../../model/index.js';
import { cardiacClasses } from '../data/class-names.js';
import { planeSides } from '../data/samples.js';
import { writeAtomically } from '../files/atomic-file.js';
import { UsageError } from '../files/usage-error.js';
import { version } from '../run/environment.js';
import { modelFlags, readWeights } from '../run/trained-model.js';
import { describeCommand } from '../settings/command-line.js';
import type { Config } from '../settings/settings.js';

export const command = describeCommand({
  name: 'export',
  about: 'Writes the network with its weights as ONNX (opset 17): batch norms in inference mode, no dropout.',
  flags: {
    onnx: { type: 'string', value: 'OUT.onnx', needed: true, help: 'file to write' },
    ...modelFlags,
    fold: { type: 'boolean', help: 'merge batch norms into the convolutions before them' },
    force: { type: 'boolean', help: 'replace OUT.onnx if it exists' },
  },
  notes: `
Input   image          float32 [batch, 1, height, width]; sides are multiples of 2^(levels − 1); values scaled as in training
Outputs logits, probabilities float32 [batch, classes, height, width]; labels uint8 [batch, height, width]
A V-Net of volumes has a depth before the height, in all of these.
Metadata of the file: size, multiple, classes, preprocessing, wgrad (the version). The code below repeats the preprocessing of runs
without --spacing, --orient, --sample and --intensity: it subtracts each volume's minimum, divides by its range, and resizes
slices to size × size by nearest neighbour.

Python, onnxruntime:
  import nibabel, numpy as np, onnxruntime
  session = onnxruntime.InferenceSession('OUT.onnx')
  size = int(session.get_modelmeta().custom_metadata_map['size'])
  at = lambda n, to: np.floor(np.arange(to) * ((n - 1) / (to - 1)) + 0.5).astype(int).clip(max=n - 1)
  file = nibabel.load('volume.nii.gz')
  x = file.get_fdata(dtype='float32').T                                  # [slices, height, width]
  x = (x - x.min()) / (x.max() - x.min())
  _, height, width = x.shape
  x = x[:, at(height, size)][:, :, at(width, size)]
  labels, = session.run(['labels'], {'image': x[:, None]})
  labels = labels[:, at(size, height)][:, :, at(size, width)].T
  nibabel.save(nibabel.Nifti1Image(labels, file.affine), 'labels.nii.gz')

A page, onnxruntime-web (voxels: a Float32Array [slices, height, width], width fastest; labels likewise):
  const session = await ort.InferenceSession.create(OUT);
  const at = (n, to) => Array.from({ length: to }, (_, i) => Math.min(n - 1, Math.floor((i * (n - 1)) / (to - 1) + 0.5)));
  const resize = (x, h, w, rows, columns) =>
    Float32Array.from({ length: slices * rows.length * columns.length }, (_, i) => {
      const [column, row] = [i % columns.length, Math.floor(i / columns.length)];
      return x[(Math.floor(row / rows.length) * h + rows[row % rows.length]) * w + columns[column]];
    });
  const [least, most] = voxels.reduce(([a, b], v) => [Math.min(a, v), Math.max(b, v)], [Infinity, -Infinity]);
  const scaled = voxels.map((v) => (v - least) / (most - least));
  const image = resize(scaled, height, width, at(height, size), at(width, size));
  const output = await session.run({ image: new ort.Tensor('float32', image, [slices, 1, size, size]) });
  const labels = resize(output.labels.data, size, size, at(size, height), at(size, width));`,
});

/** How a model's volumes are scaled, in words. */
function scalingOf({ intensity, intensityPercentiles }: Config): string {
  switch (intensity) {
    case 'percentile':
      return `the volume clipped to its percentiles ${intensityPercentiles.join(' and ')} %, then minus its minimum, divided by its range; `;
    case 'minmax':
      return 'the volume minus its minimum, divided by its range; ';
    case 'zscore':
      return 'the volume minus its mean, divided by its standard deviation; ';
    case 'stored':
      return 'values as stored; ';
  }
}

/** Runs `wgrad export`. */
export async function run(args: string[]): Promise<number> {
  const { flags } = command.read(args);
  const { onnx: out, model: role, fold, force } = flags;
  if (!out.endsWith('.onnx')) throw new UsageError(`export: '${out}' does not end in .onnx. Name it OUT.onnx.`);
  if (existsSync(out) && !force) {
    throw new UsageError(`export: '${out}' exists. Name another file, or add --force to replace it.`);
  }
  const { arrays, config } = readWeights({ ...flags, role });
  const isVNet = config.network === 'vnet';
  const { features, classes, multiple } = isVNet ? vnetSizes(arrays) : unetSizes(arrays);
  const isSolid = config.patch.length === 3;
  const sides = isSolid ? config.patch : planeSides(config);
  const size = isSolid ? 'size' : 'size × size';
  const metadata = {
    size: !isSolid && sides[0] === sides[1] ? `${sides[0]}` : sides.join(','),
    multiple: `${multiple}`,
    classes: (classes === cardiacClasses.length
      ? cardiacClasses
      : Array.from({ length: classes }, (_, k) => `${k}`)
    ).join(','),
    preprocessing:
      scalingOf(config) +
      (config.orient === 'canonical' ? 'axes reordered and flipped to RAS; ' : '') +
      (isSolid ? 'volumes [z, y, x], ' : 'slices along z, ') +
      (config.spacing.some((mm) => mm > 0)
        ? `at ${config.spacing.join(' × ')} mm a pixel, cut or padded to ${size}`
        : config.sample === 'patches'
          ? `${config.downsample === 2 ? `means of 2 × 2${isSolid ? ' × 2 voxels' : ' pixels'}, ` : ''}windows of ${size}, whose probabilities are averaged`
          : `resized to ${size}, nearest neighbour`),
    wgrad: version(),
    ...(flags.run && { method: `${config.method}, ${role}` }), // weights from elsewhere do not name their method
  };
  writeAtomically(out, [(isVNet ? vnetOnnx : unetOnnx)(arrays, { fold, version: version(), metadata })]);
  console.error(
    `${out}: ${isVNet ? 'V-Net' : 'UNet'} of ${features.join(', ')} features, ${classes} classes, ONNX opset 17`,
  );
  console.log(out);
  return 0;
}
