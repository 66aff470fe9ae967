// Reads what RADV prints of a pipeline with RADV_DEBUG=shaderstats,asm: figures, one a line, and the instructions by basic block.
// Cycles follow the compiler's own table (Mesa, src/amd/compiler/aco_statistics.cpp).
import type { Card, Compiled, Work } from './cards.js';
import { type Block, hottest } from './loops.js';

/** Marks the second half of an instruction that is two in one (`v_dual_fmac_f32 … :: v_dual_mul_f32 …`): it takes no time of its own. */
const second = '+';

/** Multiply-adds a lane. A wave's matrix product of 16×16×16 is shared by its lanes. */
function multiplyAddsOf(op: string, wave: number): number {
  if (op.startsWith('v_wmma')) return 4096 / wave;
  if (/^v_(pk_fma|pk_fmac|dot2|dot2c)_/.test(op)) return 2;
  return /^\+?v_(dual_)?(fma|fmac|fmaak|fmamk|mac|mad|madmk|madak|mad_mix|fma_mix|fma_mixlo|fma_mixhi)_f(16|32)/.test(
    op,
  )
    ? 1
    : 0;
}

/** Integer products of 32 bits, and functions such as exp: a quarter of the rate. */
const isSlow = (op: string): boolean =>
  /^v_(mul_(lo|hi)_[iu]32|mad_[iu]64_[iu]32|(exp|log|rcp|rsq|sqrt|sin|cos)_)/.test(op);

/** What RDNA 3 issues for 64 lanes at once. */
const isDual = (op: string): boolean =>
  /^v_((fma|fmac|fmaak|fmamk|mul|add|sub|subrev|max|min)_f(16|32)|mov_b32|cndmask_b32|dot2)/.test(op);

/** Cycles in which an instruction keeps a SIMD's arithmetic busy. */
function cyclesOf(op: string, wave: number, { lanes, dualIssue }: Card): number {
  const passes = wave / lanes;
  if (op.startsWith('v_wmma')) return 32;
  if (isSlow(op)) return 4 * passes;
  return dualIssue && wave === 64 && isDual(op) ? passes / 2 : passes;
}

/** Bytes a lane of a load or store: `ds_load_b128`, `ds_read2_b64`, `buffer_load_dwordx4`, `buffer_load_ushort`. */
function bytesOf(op: string): number {
  const words = /dword(?:x(\d))?$/.exec(op);
  if (words) return 4 * Number(words[1] ?? 1);
  const bits = Number(/_[buif](\d+)/.exec(op)?.[1] ?? 32);
  const times = /(read|write|load|store)(_?2)(addr|st64|_|$)/.test(op) ? 2 : 1;
  return times * Math.max(4, bits / 8);
}

function workOf(ops: readonly string[], wave: number, card: Card): Work {
  let [multiplyAdds, arithmetic, workgroupBytes, memoryBytes] = [0, 0, 0, 0];
  for (const op of ops) {
    if (/^\+?v_/.test(op)) {
      multiplyAdds += multiplyAddsOf(op, wave);
      arithmetic += op.startsWith(second) ? 0 : cyclesOf(op, wave, card);
    } else if (/^ds_(read|write|load|store)/.test(op)) workgroupBytes += bytesOf(op);
    else if (/^(buffer|global|flat|scratch)_(load|store)/.test(op)) memoryBytes += bytesOf(op);
  }
  const matrix = ops.some((op) => op.startsWith('v_wmma'));
  return { instructions: ops.length, multiplyAdds, matrix, arithmetic, workgroupBytes, memoryBytes };
}

/** Instructions by block. Waits and hints of the scheduler are none. */
function blocksOf(lines: readonly string[], wave: number, card: Card): Block[] {
  const blocks: { name: string; ops: string[]; branches: string[] }[] = [];
  for (const line of lines) {
    const name = /^(BB\d+):/.exec(line)?.[1];
    if (name) blocks.push({ name, ops: [], branches: [] });
    const block = blocks.at(-1);
    const found = /^\s+([a-z]\w+)\s*([^;]*)/.exec(line);
    const repeated = Number(/\(then repeated (\d+) times\)/.exec(line)?.[1] ?? 0);
    if (repeated) block?.ops.push(...Array.from({ length: repeated }, () => block.ops.at(-1)!));
    if (!block || !found || /^s_(waitcnt|delay_alu|nop|clause)/.test(found[1]!)) continue;
    const [, op, args] = found as unknown as [string, string, string];
    block.ops.push(op.replace(/_e(32|64)(_dpp)?$/, ''));
    const half = /:: (v_dual_\w+)/.exec(args)?.[1];
    if (half) block.ops.push(second + half);
    if (/^s_c?branch/.test(op)) block.branches.push(/BB\d+/.exec(args)?.[0] ?? '');
  }
  return blocks.map(({ name, ops, branches }) => ({ name, branches, work: workOf(ops, wave, card) }));
}

/** What RADV printed of one kernel; undefined where its figures are missing. */
export function readAmd(text: string, card: Card): Compiled | undefined {
  const figures = new Map(
    [...text.matchAll(/^([A-Z][\w -]*): (\d+)$/gm)].map(([, name, value]) => [name, Number(value)]),
  );
  const figure = (name: string): number => figures.get(name) ?? 0;
  if (!figures.has('VGPRs')) return undefined;
  const [code = ''] = text.slice(text.indexOf('disasm:')).split('*** SHADER STATS');
  // By the width of its masks. Half of one may be used as a plain register.
  const wave = /\bexec_lo\b|\sv_cmp\w* vcc_lo,/.test(code) && !/\b(exec|vcc)\b/.test(code) ? 32 : 64;
  return {
    registers: figure('VGPRs'),
    spills: figure('Spilled VGPRs'),
    scalarSpills: figure('Spilled SGPRs'),
    scratchBytes: figure('Scratch size'),
    workgroupBytes: figure('LDS size'),
    instructions: figure('Instructions'),
    wave,
    cycles: figures.get('Inverse Throughput'),
    hot: hottest(blocksOf(code.split('\n'), wave, card)),
  };
}
