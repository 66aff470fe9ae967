// The choices that wgrad ships, for adapters measured so far. `wgrad bench --tune --print-table` writes this file: do not edit it
// by hand. A user's own measurements on the same adapter take precedence.
// biome-ignore-all lint/suspicious/noApproximativeNumericConstant: a measured time may look like one
import type { TunedTable } from './tuning.js';

// biome-ignore format: one line for each key
export const tuned: readonly TunedTable[] = [
{ adapter: "mesa · software · llvmpipe-llvm-15-0-6-256-bits-", choices: {
"conv.inputGradient f16/f32 b1 1x1x32768 32>8 k1x1x1 s1": {"choice":{"kernel":"direct","tile":{"rows":1,"columns":8,"channels":2,"quad":true,"workgroup":16}},"ms":1.361,"defaultMs":1.815,"hash":"fe43842b"},
"conv.inputGradient f32 b1 1x1x32768 32>8 k1x1x1 s1": {"choice":{"kernel":"direct","tile":{"rows":1,"columns":12,"channels":2,"quad":true,"workgroup":16}},"ms":1.744,"defaultMs":2.342,"hash":"1f8905df"},
"conv.weightGradient f16/f32 b8 1x16x16 32>32 k1x3x3 s1": {"choice":{"kernel":"direct","tile":{"inputs":4,"outputs":8,"allRows":false,"unroll":2,"quad":true,"slices":2,"workgroup":16}},"ms":1.32,"defaultMs":1.432,"hash":"6cd44df1"},
"conv.weightGradient f16/f32 b8 1x16x16 64>32 k1x3x3 s1": {"choice":{"kernel":"direct","tile":{"inputs":4,"outputs":16,"allRows":false,"unroll":2,"quad":true,"slices":6,"workgroup":16}},"ms":2.199,"defaultMs":2.491,"hash":"73b7b17f"},
"conv.weightGradient f16/f32 b8 1x32x32 32>16 k1x3x3 s1": {"choice":{"kernel":"direct","tile":{"inputs":4,"outputs":8,"allRows":false,"unroll":4,"quad":true,"slices":11,"workgroup":16}},"ms":2.489,"defaultMs":2.571,"hash":"6c9d5b24"},
"conv.weightGradient f16/f32 b8 1x4x4 128>128 k1x3x3 s1": {"choice":{"kernel":"direct","tile":{"inputs":4,"outputs":8,"allRows":false,"unroll":4,"quad":true,"slices":1,"workgroup":16}},"ms":1.094,"defaultMs":1.187,"hash":"6e00f64c"},
"conv.weightGradient f16/f32 b8 1x64x64 16>8 k1x3x3 s1": {"choice":{"kernel":"direct","tile":{"inputs":4,"outputs":8,"allRows":false,"unroll":4,"quad":true,"slices":43,"workgroup":16}},"ms":2.318,"defaultMs":2.462,"hash":"0a7bce84"},
"conv.weightGradient f16/f32 b8 1x64x64 1>8 k1x3x3 s1": {"choice":{"kernel":"direct","tile":{"inputs":1,"outputs":8,"allRows":true,"unroll":2,"quad":false,"slices":32,"workgroup":16}},"ms":0.3575,"defaultMs":0.3849,"hash":"6bff51ca"},
"conv.weightGradient f16/f32 b8 1x64x64 8>8 k1x3x3 s1": {"choice":{"kernel":"direct","tile":{"inputs":4,"outputs":8,"allRows":false,"unroll":4,"quad":true,"slices":43,"workgroup":16}},"ms":2.293,"defaultMs":2.417,"hash":"db00dcfa"},
"conv.weightGradient f16/f32 b8 1x8x8 32>64 k1x3x3 s1": {"choice":{"kernel":"direct","tile":{"inputs":4,"outputs":8,"allRows":false,"unroll":2,"quad":true,"slices":1,"workgroup":16}},"ms":0.6071,"defaultMs":0.7934,"hash":"23afa6fc"},
"conv.weightGradient f16/f32 b8 1x8x8 64>64 k1x3x3 s1": {"choice":{"kernel":"direct","tile":{"inputs":4,"outputs":8,"allRows":false,"unroll":2,"quad":true,"slices":1,"workgroup":16}},"ms":1.203,"defaultMs":1.559,"hash":"7e9aac7f"},
"conv.weightGradient f32 b8 1x16x16 16>32 k1x3x3 s1": {"choice":{"kernel":"direct","tile":{"inputs":4,"outputs":16,"allRows":false,"unroll":2,"quad":true,"slices":16,"workgroup":16}},"ms":0.6713,"defaultMs":0.7101,"hash":"6660d581"},
"conv.weightGradient f32 b8 1x16x16 32>32 k1x3x3 s1": {"choice":{"kernel":"direct","tile":{"inputs":4,"outputs":8,"allRows":false,"unroll":2,"quad":true,"slices":2,"workgroup":16}},"ms":1.257,"defaultMs":1.355,"hash":"feb0a3ef"},
"conv.weightGradient f32 b8 1x16x16 64>32 k1x3x3 s1": {"choice":{"kernel":"direct","tile":{"inputs":4,"outputs":16,"allRows":false,"unroll":2,"quad":true,"slices":6,"workgroup":16}},"ms":2.264,"defaultMs":2.612,"hash":"e07ada59"},
"conv.weightGradient f32 b8 1x32x32 16>16 k1x3x3 s1": {"choice":{"kernel":"direct","tile":{"inputs":4,"outputs":16,"allRows":false,"unroll":2,"quad":true,"slices":43,"workgroup":16}},"ms":1.341,"defaultMs":1.42,"hash":"b2017381"},
"conv.weightGradient f32 b8 1x32x32 32>16 k1x3x3 s1": {"choice":{"kernel":"direct","tile":{"inputs":4,"outputs":16,"allRows":false,"unroll":2,"quad":true,"slices":22,"workgroup":16}},"ms":2.197,"defaultMs":2.485,"hash":"fd12f0b0"},
"conv.weightGradient f32 b8 1x32x32 8>16 k1x3x3 s1": {"choice":{"kernel":"direct","tile":{"inputs":4,"outputs":16,"allRows":false,"unroll":2,"quad":true,"slices":43,"workgroup":16}},"ms":1.274,"defaultMs":1.494,"hash":"8b079642"},
"conv.weightGradient f32 b8 1x4x4 128>128 k1x3x3 s1": {"choice":{"kernel":"direct","tile":{"inputs":4,"outputs":8,"allRows":false,"unroll":4,"quad":true,"slices":1,"workgroup":16}},"ms":1.141,"defaultMs":1.999,"hash":"985e5948"},
"conv.weightGradient f32 b8 1x8x8 32>64 k1x3x3 s1": {"choice":{"kernel":"direct","tile":{"inputs":4,"outputs":8,"allRows":false,"unroll":2,"quad":true,"slices":1,"workgroup":16}},"ms":1.057,"defaultMs":1.425,"hash":"11eae3a8"},
"conv.weightGradient f32 b8 1x8x8 64>64 k1x3x3 s1": {"choice":{"kernel":"direct","tile":{"inputs":4,"outputs":8,"allRows":false,"unroll":2,"quad":true,"slices":1,"workgroup":16}},"ms":1.217,"defaultMs":1.592,"hash":"a2e07f65"},
}},
];
