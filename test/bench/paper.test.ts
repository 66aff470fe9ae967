// `wgrad bench paper`: how it reads what compilers print, its estimates, and, where Mesa's shims are, what RADV makes of the protocols'
// steps: every kernel compiles and fits into registers, so that no change of a kernel takes that from GPU users unseen.
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { readAmd } from '../../bench/paper/amd.js';
import { type Compiled, cards, hotShare, leastMs, occupancy } from '../../bench/paper/cards.js';
import { byName, compileFor, type PaperKernel, type PaperReport } from '../../bench/paper/compile.js';
import { flopsOf } from '../../bench/paper/compile-step.js';
import { missingFor } from '../../bench/paper/drivers.js';
import { command, paperText } from '../../bench/paper/index.js';
import { readNak } from '../../bench/paper/nak.js';
import { readProtocol } from '../../train/settings/config-file.js';
import { unless } from '../unless.js';

const test = suite('bench paper');

/** As RADV prints a kernel: blocks, then figures. */
const amd = (blocks: string, figures = ''): string => `Compute Shader
disasm:
${blocks}

Compute Shader:
*** SHADER STATS ***
VGPRs: 96
Spilled SGPRs: 1
Spilled VGPRs: 2
LDS size: 3072
Scratch size: 512
Instructions: 41
Inverse Throughput: 347
${figures}`;

test('RDNA 3: the inner loop is found, its work counted, and dual-issue instructions take one cycle', () => {
  const compiled = readAmd(
    amd(`BB0:
\ts_mov_b64 exec, -1                      ; befe01c1
\tbuffer_load_b128 v[0:3], v4, s[0:3], 0 offen ; e05c0000
BB1:
\tv_mul_lo_u32 v9, s10, v0                ; d72c0000
\tds_store_b32 v1, v9                     ; d8340000
BB2:
\ts_waitcnt lgkmcnt(0)                    ; bf89fc07
\tds_load_b128 v[4:7], v1                 ; db7c0000
\tds_load_2addr_b32 v[8:9], v1 offset1:1  ; d8dc0000
\tv_fmac_f32_e32 v10, v4, v5              ; 56140b04
\t(then repeated 2 times)
\tv_min_u32_e32 v1, s1, v1                ; 26020201
\ts_cbranch_scc1 BB2                      ; bfa2fff0
BB3:
\tv_fma_f32 v10, v4, v5, v6               ; d6130000
\ts_cbranch_vccnz BB1                     ; bfa4fff0
BB4:
\ts_endpgm                                ; bfb00000`),
    cards.navi31,
  )!;
  const { hot, ...figures } = compiled;
  assert.equal(figures, {
    ...{
      registers: 96,
      spills: 2,
      scalarSpills: 1,
      scratchBytes: 512,
      workgroupBytes: 3072,
      instructions: 41,
      wave: 64,
      cycles: 347,
    },
  });
  // three multiply-adds of a cycle, a minimum of two; a load of 16 bytes and one of twice 4
  assert.equal(hot, {
    ...{ instructions: 7, multiplyAdds: 3, matrix: false, arithmetic: 5, workgroupBytes: 24, memoryBytes: 0 },
  });
  assert.equal(hotShare(cards.navi31, compiled), { share: (3 * 64) / (64 * 24), by: 'workgroup memory' });
});

test('RDNA 3, wave32: matrix products, and two instructions in one', () => {
  const { wave, hot } = readAmd(
    amd(`BB0:
\tv_wmma_f32_16x16x16_f16 v[0:7], v[8:15], v[16:23], v[0:7] ; cc404000
\tv_dual_fmac_f32 v0, v1, v2 :: v_dual_mul_f32 v3, v4, v5   ; c8060000
\tv_dual_fmac_f32 v0, v1, v2 :: v_dual_fmac_f32 v3, v4, v5  ; c8000000
\ts_and_b32 vcc_lo, exec_lo, vcc_lo                          ; 8b6a6a7e
\ts_cbranch_vccnz BB0                                        ; bfa4fff0`),
    cards.navi31,
  )!;
  assert.is(wave, 32);
  assert.equal(hot, {
    ...{ instructions: 7, multiplyAdds: 131, matrix: true, arithmetic: 34, workgroupBytes: 0, memoryBytes: 0 },
  });
});

const gcn = `BB0:
\ts_mov_b64 exec, s[0:1]                  ; befe0100
BB1:
\tbuffer_load_dwordx4 v[0:3], v4, s[0:3], 0 offen ; e05c1000
\tbuffer_load_ushort v7, v4, s[0:3], 0 offen      ; e0481000
\tds_read2_b64 v[4:7], v1 offset1:1       ; d8ee0100
\tv_mac_f32_e32 v8, v4, v5                ; 2c100b04
\tv_fma_mix_f32 v8, v4, v5, v6            ; d3a00000
\tv_pk_fma_f16 v8, v4, v5, v6             ; d38e0000
\tv_exp_f32_e32 v8, v8                    ; 7e104108
\ts_cbranch_scc1 BB1                      ; bf85fff0`;

test('GCN and RDNA 2: a wave of 64 takes several passes, and a function four times as long', () => {
  const work = { instructions: 8, multiplyAdds: 4, matrix: false, workgroupBytes: 16, memoryBytes: 20 };
  assert.equal(readAmd(amd(gcn), cards.vega10)!.hot, { ...work, arithmetic: 4 + 4 + 4 + 16 });
  assert.equal(readAmd(amd(gcn), cards.navi21)!.hot, { ...work, arithmetic: 2 + 2 + 2 + 8 });
});

test('a kernel without a loop that multiplies is judged as a whole; without figures it is not read', () => {
  const text = amd(`BB0:
\tv_fmac_f32_e32 v10, v4, v5 ; 56140b04
\tv_fmac_f32_e32 v10, v4, v5 ; 56140b04
BB1:
\tv_add_u32_e32 v1, v1, v2   ; 68020501
\ts_cbranch_scc1 BB1         ; bf85fff0`);
  assert.is(readAmd(text, cards.vega10)!.hot!.multiplyAdds, 2);
  assert.is(readAmd('', cards.vega10), undefined);
});

test('NVK: the last program counts, an instruction is a cycle, registers come in eights', () => {
  const compiled = readNak(`shared_size: 4096
NAK IR after legalize:
block.u 0 L1 [] -> {
${'      r0     = ffma r1 r2 r0                           // delay=1\n'.repeat(12)}
} -> [0]
NAK IR after calc_instr_deps:
block.u 0 L1 [] -> {
      r0     = s2r sr[0x25]                            // delay=1 wr:0
@!p0           bra L4                                  // delay=1
} -> [1, 2]
block 1 L2 [0, 1] -> {
      r4     = ld.shared.b128 [r0+0x10]                // delay=1 wr:0
      r8     = ld.global.a64.constant.b32 [r2..4]      // delay=1 wr:1
               nop L3                                  // delay=1
      r9 p0  = iadd3 r1 0x3 rZ                         // delay=6
      r5     = ffma.ftz r17 r28 r5                     // delay=1
@p0   r6     = hfma2 r17 r28 r6                        // delay=1
      p1     = isetp.lt.u32 r4 c[0x1][0x18]            // delay=11
@p1            bra L2                                  // delay=1
} -> [2, 1]
block 2 L4 [0, 1] -> {
               st.global.a64.strong.sys.b32 [r0..2] r3 // delay=2 rd:0
               exit                                    // delay=1
} -> []

Stage: compute
Instruction count: 11
Num GPRs: 33
SLM size: 8
`)!;
  const { hot, ...figures } = compiled;
  assert.equal(figures, {
    ...{ registers: 40, spills: 2, scalarSpills: 0, scratchBytes: 8, workgroupBytes: 4096, instructions: 11 },
    ...{ wave: 32, cycles: undefined },
  });
  assert.equal(hot, {
    ...{ instructions: 7, multiplyAdds: 3, matrix: false, arithmetic: 7, workgroupBytes: 16, memoryBytes: 4 },
  });
  assert.is(readNak('Stage: compute'), undefined);
});

const compiled: Compiled = {
  ...{
    registers: 96,
    spills: 0,
    scalarSpills: 0,
    scratchBytes: 0,
    workgroupBytes: 0,
    instructions: 9,
    wave: 64,
    cycles: 1000,
  },
  hot: {
    ...{ instructions: 9, multiplyAdds: 8, matrix: false, arithmetic: 10, workgroupBytes: 0, memoryBytes: 0 },
  },
};

test('occupancy: by registers, and by whole workgroups in the memory that they share', () => {
  const { navi31, vega10 } = cards;
  assert.is(occupancy(navi31, compiled, 64), 8 / 16); // 768 / 96
  assert.is(occupancy(navi31, { ...compiled, registers: 12 }, 64), 1);
  // 20 KiB: six workgroups of 4 waves on four SIMDs
  assert.is(occupancy(navi31, { ...compiled, workgroupBytes: 20000 }, 256), 6 / 16);
  assert.is(occupancy(navi31, { ...compiled, registers: 192, wave: 32 }, 256), 8 / 16); // 1536 / 192
  assert.is(occupancy(vega10, { ...compiled, workgroupBytes: 40000 }, 256), 1 / 10);
  // 212 registers are 216; nine waves fit beside each other, a workgroup has eight
  assert.is(occupancy(cards['nvk-172'], { ...compiled, registers: 216, wave: 32 }, 256), 2 / 12);
});

test('the least time is that of memory, of multiply-adds at the hottest loop, or of the compiler', () => {
  const use = { groups: 1e6, threads: 64, bytes: 0, flops: 0 };
  assert.ok(Math.abs(leastMs(cards.navi31, compiled, { ...use, bytes: 960e9 }) - 1000) < 1e-9);
  const peak = 192 * 64 * 2 * 2.5e9;
  // 8 multiply-adds of 64 lanes in 10 cycles: 80 % of the peak
  assert.ok(Math.abs(leastMs(cards.navi31, compiled, { ...use, flops: peak }) - 1250) < 1e-9);
  assert.ok(Math.abs(leastMs(cards.navi31, compiled, use) - (1e6 * 1000 * 1000) / 192 / 2.5e9) < 1e-9);
});

test('operations of a convolution: each weight at each pixel of the smaller image', () => {
  const [wide, narrow] = [
    [2, 8, 8, 4],
    [2, 4, 4, 6],
  ];
  assert.is(flopsOf('conv_tiled', { x: wide, y: [2, 8, 8, 6], weight: [6, 3, 3, 4] }), 2 * 128 * 216);
  assert.is(flopsOf('conv_block_scatter', { x: narrow, y: wide, weight: [4, 2, 2, 6] }), 2 * 32 * 96);
  assert.is(
    flopsOf('conv_tiled_weight_gradient', { x: wide, dy: [2, 8, 8, 6], dWeight: [9, 6, 3, 3, 4] }),
    2 * 128 * 216,
  );
  assert.is(flopsOf('conv', { x: wide, y: narrow, weight: [6, 2, 2, 4] }), 2 * 32 * 96); // a stride of 2
  assert.is(flopsOf('conv_strided_input_gradient', { dx: wide, dy: narrow, weight: [6, 2, 2, 4] }), 2 * 32 * 96);
  assert.is(flopsOf('conv_depthwise_forward', { x: wide, y: wide, weight: [4, 3, 3, 1] }), 2 * 128 * 36);
  assert.is(flopsOf('convert_type', { x: wide, y: wide, weight: wide }), 0);
  assert.is(flopsOf('conv_merged_parts', { partials: [4, 2], merged: [4] }), 0);
  assert.is(flopsOf('conv_sum_slices', { dWeight: [6, 3, 3, 4] }), 0);
  assert.is(flopsOf('norm_activation', { x: wide, y: wide }), 0);
});

const row = (kernel: string, over: Partial<PaperKernel>): PaperKernel => ({
  ...{
    kernel,
    launches: 1,
    threads: 64,
    registers: 10,
    spills: 0,
    scalarSpills: 0,
    scratchBytes: 0,
    workgroupBytes: 0,
  },
  ...{ instructions: 5, occupancy: 1, flops: 1e9, bytes: 1e6, ms: 1, ...over },
});

test('kernels of one name are one row: sums, the worst, and the share by time', () => {
  const kernels = [
    row('a', { ms: 3, hotShare: 0.9, busiest: 'arithmetic', occupancy: 0.5, registers: 20 }),
    row('b', { ms: 2 }),
    row('a', { ms: 1, hotShare: 0.5, busiest: 'cache', spills: 4 }),
  ];
  const [a, b] = byName(kernels);
  assert.equal(b, kernels[1]);
  const { kernel, launches, spills, registers, occupancy: held, hotShare: share, busiest, ms } = a!;
  assert.equal([kernel, launches, spills, registers, held, busiest, ms], ['a', 2, 4, 20, 0.5, 'arithmetic', 4]);
  assert.ok(Math.abs(share! - 0.8) < 1e-12);
  const report = { gpu: 'navi31', card: 'C', launches: 5, kernels, failed: ['c: no'] } as unknown as PaperReport;
  const text = paperText(report, false);
  assert.match(
    text,
    /5 launches of 4 kernels; 1 do not compile, 1 spill, 0 use scratch memory, 0 keep scalars in vector registers/,
  );
  assert.match(
    text,
    /at least 6\.00 ms a step on C: 3 GFLOP of convolutions, 0\.00 GB bound\ndoes not compile: c: no$/,
  );
  assert.is(text.split('\n').filter((line) => /^a /.test(line)).length, 1);
  assert.is(
    paperText(report, true)
      .split('\n')
      .filter((line) => /^a /.test(line)).length,
    2,
  );
});

test('elsewhere than on Linux, and for an unknown GPU, it says so', () => {
  const before = Object.getOwnPropertyDescriptor(process, 'platform')!;
  Object.defineProperty(process, 'platform', { ...before, value: 'darwin' });
  try {
    assert.match(missingFor(cards.navi31) ?? '', /for Linux — this is darwin/);
  } finally {
    Object.defineProperty(process, 'platform', before);
  }
  assert.throws(() => command.read(['--gpu', 'navi13']), /must be one of navi31, navi21, vega10, nvk-172/);
});

const steps: [string, Record<string, unknown>][] = [
  ['acdc, f32', readProtocol('acdc')],
  ['acdc, f16', { ...readProtocol('acdc'), precision: 'f16' }],
  ['la, f32', readProtocol('la')],
];
const missing = missingFor(cards.navi31);
const compile = unless(missing && "Mesa's RADV and its shim are not here", test);
// All at once: while one records, another compiles.
const reports = missing ? [] : steps.map(([, settings]) => compileFor('navi31', { settings, matrix: false, only: '' }));
for (const report of reports) report.catch(() => {}); // its test reports it

steps.forEach(([name], i) => {
  compile(`navi31 compiles the step of ${name}, without a spill`, async () => {
    const { kernels, failed, launches } = await reports[i]!;
    assert.equal(failed, []);
    assert.ok(kernels.length > 100 && launches > kernels.length, `${kernels.length} kernels, ${launches} launches`);
    const spilling = kernels
      .filter(({ spills, scalarSpills, scratchBytes }) => spills || scalarSpills || scratchBytes)
      .map(({ kernel }) => kernel);
    assert.equal(spilling, []);
    for (const { kernel, hotShare: share } of byName(kernels).filter((k) => /^conv_tiled/.test(k.kernel)))
      assert.ok(share! > 0.85, `${kernel}: the hottest loops multiply at ${share} of the peak`);
    assert.ok(kernels.every(({ registers, ms }) => registers > 0 && ms > 0));
  });
});

test.run();
