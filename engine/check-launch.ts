// Checks of a launch as it is recorded, at the line that made it: what it binds, and how many workgroups it has. Only the driver
// can find the rest (launch.ts).
import { changedSince } from './changes.js';
import { type Gpu, GpuError } from './device.js';
import type { Binding, Kernel } from './kernel.js';
import type { Bindable } from './launch.js';
import { type Storage, sizeProblem } from './memory.js';

/** A grid: one invocation per thread (folded into y beyond 65 535 workgroups), or workgroups as given. */
export type Grid = { threads: number } | { workgroups: readonly number[] };

/** The op whose gradient is recorded, the time of its own recording, and an exempt tensor: the seed, which comes later. */
export interface Recorded {
  readonly op: string;
  readonly time: number;
  readonly except: Storage;
}

/** Throws a GpuError when a launch of a gradient reads what has changed since its op was recorded. */
export function checkUnchanged({ bindings }: Kernel, args: readonly Bindable[], { op, time, except }: Recorded): void {
  args.forEach((arg, i) => {
    const by = bindings[i]!.writes || arg.storage === except ? undefined : changedSince(arg, time);
    if (!by) return;
    throw new GpuError(
      `backward: '${arg.storage.label}' was changed by ${by} after ${op} had used it — its gradient would be that of other numbers. Call backward before that, or run the forward pass again.`,
    );
  });
}

const overlap = (a: Bindable, b: Bindable): boolean => a.offset < b.offset + b.bytes && b.offset < a.offset + a.bytes;

/** Element types of tensors that fit a binding of these elements; bits of other types would be read as other numbers. */
const holds: Record<NonNullable<Binding['element']>, readonly string[]> = {
  f32: ['f32'],
  f16: ['f16'],
  u32: ['u32', 'u8'],
  i32: ['i32'],
};

/** Throws a GpuError that names the first argument which does not fit its binding. */
export function checkArgs({ label, bindings }: Kernel, args: readonly Bindable[]): void {
  const seen = new Map<Storage, { binding: Binding; tensor: Bindable }[]>();
  const { gpu } = args[0]!;
  args.forEach((tensor, i) => {
    const binding = bindings[i]!;
    if (tensor.gpu !== gpu && tensor.gpu.device === gpu.device) {
      throw new GpuError(
        `${label}: '${binding.name}' is of another Gpu than '${bindings[0]!.name}', over the same device. Use one Gpu for both.`,
      );
    }
    if (tensor.gpu !== gpu) {
      throw new GpuError(
        `${label}: '${binding.name}' is on another device than '${bindings[0]!.name}'. Make it there of what its read() gives.`,
      );
    }
    const misfit = (tensor.external ?? binding.other)?.misfit(binding);
    if (misfit) throw new GpuError(`${label}: '${binding.name}' ${misfit}.`);
    if (tensor.storage.dead) {
      throw new GpuError(`${label}: '${binding.name}' died with its scope. Return it from the scope to keep it.`);
    }
    if (binding.element && !holds[binding.element].includes(tensor.dtype)) {
      throw new GpuError(
        `${label}: '${binding.name}' is ${tensor.dtype} [${tensor.shape}] — the shader reads ${binding.element}, which holds ${holds[binding.element].join(' and ')}. Convert it first.`,
      );
    }
    if (tensor.bytes < binding.leastBytes) {
      throw new GpuError(
        `${label}: '${binding.name}' is [${tensor.shape}], ${tensor.bytes} bytes — the shader's type needs at least ${binding.leastBytes} bytes.`,
      );
    }
    if (tensor.offset % gpu.limits.minStorageBufferOffsetAlignment !== 0) {
      throw new GpuError(
        `${label}: '${binding.name}' begins at byte ${tensor.offset} of its buffer — this GPU binds from multiples of ` +
          `${gpu.limits.minStorageBufferOffsetAlignment} on. Copy it to a tensor of its own.`,
      );
    }
    const sharing = seen.get(tensor.storage) ?? [];
    // Packed tensors may be written side by side; one buffer read and written in one launch is not allowed at all.
    const other = sharing.find(
      ({ binding: b, tensor: t }) => b.writes !== binding.writes || (b.writes && overlap(t, tensor)),
    );
    if (other) {
      throw new GpuError(
        `${label}: one tensor is bound twice, as '${other.binding.name}' and '${binding.name}'. Bind it once, read_write for in place.`,
      );
    }
    seen.set(tensor.storage, [...sharing, { binding, tensor }]);
  });
}

/** The error of the first tensor that has no buffer yet and is larger than this GPU binds. */
export const tooLarge = (gpu: Gpu, args: readonly Bindable[]): GpuError | undefined => {
  for (const { storage } of args) {
    const problem = storage.buffer ? undefined : sizeProblem(gpu, storage.bytes, storage.label);
    if (problem) return problem;
  }
  return undefined;
};

/** The workgroups of a grid, at most `most` in one direction; throws a GpuError for others. */
export function workgroupsOf(k: Kernel, grid: Grid, most: number): [number, number, number] {
  let size: readonly number[];
  if ('threads' in grid) {
    const groups = Math.ceil(grid.threads / k.workgroupSize);
    const x = Math.min(groups, most);
    size = [x, Math.ceil(groups / x), 1];
  } else {
    size = grid.workgroups;
  }
  const [x = 1, y = 1, z = 1] = size;
  if (![x, y, z].every((n) => Number.isInteger(n) && n >= 1 && n <= most)) {
    throw new GpuError(
      `${k.label}: ${x}×${y}×${z} workgroups — at most ${most} in one direction, and whole numbers from 1 on.`,
    );
  }
  return [x, y, z];
}
