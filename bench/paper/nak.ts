// Reads what NVK prints of a pipeline with NAK_DEBUG=print: figures, one a line, and the program after each pass. The last one counts.
import type { Compiled, Work } from './cards.js';
import { type Block, hottest } from './loops.js';

/** Multiply-adds a lane. */
const multiplyAddsOf = (op: string): number => (/^ffma\b/.test(op) ? 1 : /^hfma2\b/.test(op) ? 2 : 0);

/** The op of a line: behind a predicate (`@!p0`) and what it writes (`r2 p0 =`). */
const opOf = (line: string): string | undefined => {
  const code = line.split('//')[0]!.replace(/^\s*@!?u?p\d+\s/, '');
  const [, op] = /^\s*(?:[\w.[\] ]+=)?\s*([a-z]\w*(?:\.[\w[\]]+)*)/.exec(code) ?? [];
  return op;
};

function workOf(ops: readonly string[]): Work {
  let [multiplyAdds, workgroupBytes, memoryBytes] = [0, 0, 0];
  for (const op of ops) {
    multiplyAdds += multiplyAddsOf(op);
    const bytes = Math.max(4, Number(/\.[bu](\d+)$/.exec(op)?.[1] ?? 32) / 8);
    if (/^(ld|st)\.shared\b/.test(op)) workgroupBytes += bytes;
    else if (/^(ld|st)\.(global|local)\b/.test(op)) memoryBytes += bytes;
  }
  // A quarter of an SM issues an instruction a cycle.
  return { instructions: ops.length, multiplyAdds, matrix: false, arithmetic: ops.length, workgroupBytes, memoryBytes };
}

/** Blocks of a program: `block 4 L5 [2, 3] -> {`, instructions, `} -> [5, 6]`. */
function blocksOf(lines: readonly string[]): Block[] {
  const blocks: Block[] = [];
  let open: { name: string; ops: string[] } | undefined;
  for (const line of lines) {
    const name = /^\s*block\S* (\d+) .*\{$/.exec(line)?.[1];
    const ends = /^\s*\} -> \[([\d, ]*)\]/.exec(line)?.[1];
    if (name !== undefined) open = { name, ops: [] };
    else if (open && ends !== undefined) {
      blocks.push({ name: open.name, branches: ends.split(', '), work: workOf(open.ops) });
      open = undefined;
    } else if (open) {
      const op = opOf(line);
      if (op !== undefined && op !== 'nop') open.ops.push(op);
    }
  }
  return blocks;
}

/** What NVK printed of one kernel; undefined where its figures are missing. */
export function readNak(text: string): Compiled | undefined {
  const figure = (name: string): number | undefined => {
    const found = new RegExp(`^${name}: (\\d+)`, 'm').exec(text)?.[1];
    return found === undefined ? undefined : Number(found);
  };
  const registers = figure('Num GPRs');
  if (registers === undefined) return undefined;
  const scratchBytes = figure('SLM size') ?? 0;
  const code = text.slice(text.lastIndexOf('NAK IR after'), text.indexOf('Stage: compute'));
  return {
    registers: 8 * Math.ceil(registers / 8), // as a warp gets them
    spills: Math.ceil(scratchBytes / 4),
    scalarSpills: 0,
    scratchBytes,
    workgroupBytes: figure('shared_size') ?? 0,
    instructions: figure('Instruction count') ?? 0,
    wave: 32,
    cycles: undefined,
    hot: hottest(blocksOf(code.split('\n'))),
  };
}
