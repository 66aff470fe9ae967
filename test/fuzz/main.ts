// The command: draws and checks programs of consecutive seeds, and shrinks and prints those that fail.
import { parseArgs } from 'node:util';
import { openDevice } from '../../engine/node.js';
import { checkProgram } from './check.js';
import { drawProgram } from './generate.js';

const { values } = parseArgs({
  options: {
    seed: { type: 'string', default: '1' },
    count: { type: 'string', default: '100' },
    adapter: { type: 'string' },
    keep: { type: 'boolean', default: false },
  },
});
const number = (name: 'seed' | 'count'): number => {
  const value = Number(values[name]);
  if (!Number.isInteger(value) || value < 1 || value > 1e6) {
    console.error(`fuzz: --${name} must be a whole number from 1 on — got ${values[name]}.`);
    process.exit(2);
  }
  return value;
};
const [first, count] = [number('seed'), number('count')];
const gpu = await openDevice({ ...(values.adapter && { adapter: values.adapter }) });
const half = gpu.features.has('shader-f16');
let failures = 0;
let nearest = 0;
for (let seed = first; seed < first + count; seed++) {
  const program = drawProgram(seed, { half, calls: [20, 60], narrow: false });
  const outcome = await checkProgram(gpu, program, seed);
  nearest = Math.max(nearest, outcome.nearest);
  if (outcome.report) {
    failures++;
    console.log(`--- seed ${seed}\n${outcome.report}`);
    if (!values.keep && failures === 20) break;
  }
  if ((seed - first + 1) % 50 === 0) console.error(`fuzz: ${seed - first + 1} programs, ${failures} failed`);
}
gpu.close();
console.log(
  `fuzz: seeds ${first} to ${first + count - 1}: ${failures} failed; the worst of the others used ${(100 * nearest).toFixed(0)} % of its tolerance`,
);
process.exitCode = failures ? 1 : 0;
