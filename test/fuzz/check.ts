// Checks a program in the modes that its seed chooses; what fails is confirmed with more noise runs, shrunk and printed.
import type { Gpu } from '../../engine/index.js';
import { expectations } from './expected.js';
import { codeOf } from './print.js';
import type { Api, Mode, Program } from './program.js';
import { type Fault, runProgram, showFault } from './run.js';
import { shrink } from './shrink.js';

/** Eager and captured, fused and not; pooling and poison go through all their combinations with the seed. */
export function modesOf(seed: number): Mode[] {
  return [true, false].flatMap((fuse, i) =>
    [false, true].map((captured, k) => {
      const combination = (seed + 2 * i + k) % 4;
      return { captured, fuse, pool: combination < 2, poison: combination % 2 === 1 };
    }),
  );
}

const samples = { first: 4, sure: 16 };

/** The fault of a program in a mode, if it has one that more noise does not explain. */
export async function faultOf(
  gpu: Gpu,
  program: Program,
  mode: Mode,
  api?: Api,
): Promise<{ fault?: Fault; nearest: number }> {
  const verdict = await runProgram(gpu, program, mode, expectations(program, samples.first), api);
  if (!verdict.fault) return verdict;
  const sure = expectations(program, samples.sure);
  return sure.steps.length ? runProgram(gpu, program, mode, sure, api) : { nearest: 0 };
}

/** A wrong number, or what is thrown: what is shrunk must not become another fault on the way. */
const kindOf = ({ at, what }: Fault): string => (at ? 'number' : what.replace(/[\d.]+|'[^']*'|\[[^\]]*\]/g, '#'));

/** Checks `program`; a report is the shrunk program as code and what it gives. */
export async function checkProgram(
  gpu: Gpu,
  program: Program,
  seed: number,
  api?: Api,
): Promise<{ nearest: number; report?: string; shrunk?: Program }> {
  const expected = expectations(program, samples.first);
  let nearest = 0;
  for (const mode of modesOf(seed)) {
    const verdict = await runProgram(gpu, program, mode, expected, api);
    if (!verdict.fault) {
      nearest = Math.max(nearest, verdict.nearest);
      continue;
    }
    const first = (await faultOf(gpu, program, mode, api)).fault;
    if (!first) continue;
    const { shrunk, fault } = await shrink(program, async (smaller) => {
      try {
        const next = (await faultOf(gpu, smaller, mode, api)).fault;
        return next && kindOf(next) === kindOf(first) ? next : undefined;
      } catch {
        return undefined; // it has no meaning
      }
    });
    return { nearest, shrunk, report: `${showFault(fault)}\n${codeOf(shrunk, fault)}` };
  }
  return { nearest };
}
