// A transformer that learns to write as a text does, character by character: embedding, attention, layer norms, cross-entropy of as many
// classes as the text has characters, AdamW with clipped gradients and a cosine schedule, one captured step.
//
//   npm run example:text -- [STEPS] [TEXT] [CHARACTERS]      reads README.md if no text is given, and writes so many characters
import { readFileSync } from 'node:fs';
import {
  add,
  backward,
  capture,
  clipGradients,
  cosineSchedule,
  createAdamW,
  crossEntropy,
  type Gpu,
  relu,
  type Tensor,
  tensor,
  uniformStream,
} from 'wgrad';
import {
  attentionLayer,
  countParameters,
  embeddingLayer,
  layerNormLayer,
  linearLayer,
  moduleOf,
  Parameters,
  truncatedNormal,
} from 'wgrad/model';
import { openDevice } from 'wgrad/node';

const [count = '300', path = 'README.md', more = '100'] = process.argv.slice(2);
const steps = Number(count);
const text = readFileSync(path, 'utf8');
const alphabet = [...new Set(text)].sort();
const codes = Array.from(text, (character) => alphabet.indexOf(character));
const [items, length, width, heads, blocks] = [8, 32, 64, 4, 2];

/** Logits [N, T, V] of characters, given as their numbers u32 [N, T]; a place sees what comes before it. */
function transformer(gpu: Gpu) {
  const init = truncatedNormal(0.02);
  const parameters = new Parameters(gpu, 1);
  const embedding = embeddingLayer(parameters.in('embedding'), alphabet.length, width, { init });
  const places = parameters.initial('places', [length, width], init);
  const layers = Array.from({ length: blocks }, (_, i) => {
    const block = parameters.in(`block${i}`);
    const [norm1, norm2] = [layerNormLayer(block.in('norm1'), width), layerNormLayer(block.in('norm2'), width)];
    const attention = attentionLayer(block.in('attention'), width, heads, { causal: true, init });
    const [wide, narrow] = [
      linearLayer(block.in('wide'), width, 4 * width, { init }),
      linearLayer(block.in('narrow'), 4 * width, width, { init }),
    ];
    return (x: Tensor): Tensor => {
      const y = add(x, attention(norm1(x)));
      return add(y, narrow(relu(wide(norm2(y)))));
    };
  });
  const norm = layerNormLayer(parameters.in('norm'), width);
  const head = linearLayer(parameters.in('head'), width, alphabet.length, { init });
  const forward = (x: Tensor): Tensor => head(norm(layers.reduce((y, block) => block(y), add(embedding(x), places))));
  return Object.assign(forward, moduleOf(parameters));
}

const gpu = await openDevice();
const model = transformer(gpu);
const input = tensor(gpu, 0, [items, length], { dtype: 'u32' });
const next = tensor(gpu, 0, [items, length], { dtype: 'u32' });
const optimizer = createAdamW(model.parameters, { learningRate: 0 });
const step = capture(gpu, () => {
  const loss = crossEntropy(model(input), next);
  const { gradients, norm } = clipGradients(backward(loss), model.parameters, 1);
  optimizer.step(gradients, undefined, { guard: norm });
  return { loss };
});

console.log(
  `${countParameters(model)} parameters, ${alphabet.length} characters, ${step.info.launches} launches a step`,
);
const random = uniformStream(7);
for (let i = 0; i < steps; i++) {
  const starts = Array.from({ length: items }, () => Math.floor(random() * (codes.length - length)));
  const pieces = (shift: number) => starts.flatMap((start) => codes.slice(start + shift, start + shift + length));
  input.write(pieces(0));
  next.write(pieces(1));
  optimizer.learningRate = cosineSchedule(i, { steps, initial: 3e-3, warmUp: steps / 20 });
  const { loss } = step();
  if (i % Math.ceil(steps / 10) === 0 || i === steps - 1)
    console.log(`step ${i}  loss ${(await loss.item()).toFixed(3)}`);
}

// Write on from a few words: the last place's logits, made a little surer, give the probabilities of the next character.
const prompt = tensor(gpu, 0, [1, length], { dtype: 'u32' });
const write = capture(gpu, () => model(prompt));
const written = codes.slice(0, length);
for (let i = 0; i < Number(more); i++) {
  prompt.write(written.slice(-length));
  const logits = (await write().read()).slice(-alphabet.length);
  const powers = Array.from(logits, (x) => Math.exp((x - Math.max(...logits)) / 0.7));
  let rest = random() * powers.reduce((a, b) => a + b);
  const chosen = powers.findIndex((p) => (rest -= p) < 0);
  written.push(chosen < 0 ? powers.length - 1 : chosen);
}
console.log(`text: ${JSON.stringify(written.map((code) => alphabet[code]).join(''))}`);
gpu.close();
