// The tiles that the tuner may choose from: all fit the device, no two are alike, and they differ in what the cost model cannot know.
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { squareGeometry } from '../../../shaders/conv/geometry.js';
import { convTiledCandidates, convTiledShader, convTiledStorage } from '../../../shaders/conv/tiled.js';
import {
  weightGradientTiledCandidates,
  weightGradientTiledShader,
  weightGradientTiledStorage,
} from '../../../shaders/conv/tiled-weight-gradient.js';

const test = suite('conv-candidates');

const threadsOf = (text: string): number => Number(/@workgroup_size\((\d+)\)/.exec(text)![1]);

/** Levels of a UNet: pixels along a side, channels of the input and of the output. */
for (const [size, inputs, outputs] of [
  [256, 16, 16],
  [64, 64, 64],
  [16, 256, 256],
] as const) {
  const g = { ...squareGeometry(inputs, outputs, 3, 1, size), batch: 24 };
  for (const storage of [16384, 49152]) {
    const limits = { storage, threads: 256 };
    const check = (threads: readonly number[], bytes: readonly number[], texts: readonly string[]): void => {
      assert.ok(texts.length > 12 && texts.length <= 24, `${texts.length} candidates`);
      assert.is(new Set(texts).size, texts.length);
      assert.ok(Math.max(...threads) <= limits.threads, `threads ${threads}`);
      assert.ok(Math.max(...bytes) <= storage, `bytes ${bytes}`);
      assert.ok(new Set(threads).size >= 3, `threads ${threads}`);
      assert.ok(new Set(bytes).size >= 4, `bytes ${bytes}`);
    };
    test(`${size}²×${inputs} → ${outputs}, ${storage} bytes`, () => {
      const tiles = convTiledCandidates(g, limits);
      const texts = tiles.map((tile) => convTiledShader('f32', g, { tile, weights: 'outputs-first', bias: true }));
      check(
        texts.map(threadsOf),
        tiles.map((tile) => convTiledStorage(g, tile)),
        texts,
      );
      assert.ok(new Set(tiles.map((t) => t.threadRows * t.threadColumns * t.threadOutputs)).size >= 2);
      // 16 KiB hold the weights of 64 output channels for one chunk only, the smallest.
      const chunks = new Set(tiles.map(({ chunk }) => chunk)).size;
      assert.ok(chunks >= (storage > 16384 || outputs < 64 ? 3 : 1), `${chunks} chunks`);
    });
    test(`weight gradient of ${size}²×${inputs} → ${outputs}, ${storage} bytes`, () => {
      const tiles = weightGradientTiledCandidates(g, limits);
      const texts = tiles.map((tile) => weightGradientTiledShader('f32', g, { tile, bias: true }));
      check(
        texts.map(threadsOf),
        tiles.map((tile) => weightGradientTiledStorage(g, tile)),
        texts,
      );
    });
  }
}

test.run();
