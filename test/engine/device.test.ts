// What a Gpu takes from an adapter and its device, tested with plain objects in place of both.
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { fromDevice, requestGpu } from '../../engine/index.js';

const test = suite('device');

const feature = 'chromium-experimental-subgroup-matrix';
const size = { M: 16, N: 8, K: 16, componentType: 'f16', resultComponentType: 'f32' };
/** As in browsers: what describes a size are getters of its prototype, so that a copy by its own keys would be empty. */
class Config {
  get M() {
    return size.M;
  }
  get N() {
    return size.N;
  }
  get K() {
    return size.K;
  }
  get componentType() {
    return size.componentType;
  }
  get resultComponentType() {
    return size.resultComponentType;
  }
}

/** As Dawn's under Node: `lists` says where the sizes of matrix units are listed. */
function pair(features: readonly string[], lists: 'adapter' | 'device'): { adapter: GPUAdapter; device: GPUDevice } {
  const info = { vendor: 'v', architecture: '', device: '', description: '', subgroupMinSize: 32, subgroupMaxSize: 32 };
  const device = {
    features: new Set(features),
    limits: {},
    lost: new Promise(() => {}),
    adapterInfo: { ...info, subgroupMatrixConfigs: lists === 'device' ? [new Config()] : [] },
    addEventListener() {},
    destroy() {},
  };
  const adapter = {
    features: device.features,
    limits: {},
    info: { ...info, ...(lists === 'adapter' && { subgroupMatrixConfigs: [new Config()] }) },
    async requestDevice({ requiredFeatures }: { requiredFeatures: string[] }) {
      return { ...device, features: new Set(requiredFeatures) };
    },
  };
  return { adapter, device } as unknown as { adapter: GPUAdapter; device: GPUDevice };
}

test('sizes of matrix units come from the adapter, where the device lists none', async () => {
  const gpu = await requestGpu(pair([feature, 'subgroups'], 'adapter').adapter);
  assert.equal(gpu.matrixSizes, [size]);
  assert.equal(gpu.subgroupSizes, { min: 32, max: 32 });
  gpu.close();
});

test('where only the device lists them, they come from there', async () => {
  const gpu = await requestGpu(pair([feature], 'device').adapter);
  assert.equal(gpu.matrixSizes, [size]);
  gpu.close();
});

test('an embedder passes them with a device that lists none', () => {
  const about = { matrixSizes: [new Config()] };
  assert.equal(fromDevice(pair([feature], 'adapter').device).matrixSizes, []);
  assert.equal(fromDevice(pair([feature], 'adapter').device, about).matrixSizes, [size]);
  assert.equal(fromDevice(pair([feature], 'device').device).matrixSizes, [size]);
});

test('there are none without the feature, whatever is listed', async () => {
  const gpu = await requestGpu(pair(['subgroups'], 'adapter').adapter);
  assert.equal(gpu.matrixSizes, []);
  gpu.close();
  assert.equal(fromDevice(pair([], 'device').device, { matrixSizes: [new Config()] }).matrixSizes, []);
});

test.run();
