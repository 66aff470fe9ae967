// Unused buffers by their size. Bisection finds the smallest one that is large enough.

export class FreeBuffers {
  readonly #lists = new Map<number, GPUBuffer[]>();
  /** The sizes of all free buffers, ascending. */
  readonly #sizes: number[] = [];

  /** Bytes of all free buffers. */
  get bytes(): number {
    return this.#sizes.reduce((sum, size) => sum + size * this.#lists.get(size)!.length, 0);
  }

  add(buffer: GPUBuffer, size: number): void {
    const list = this.#lists.get(size);
    if (list) {
      list.push(buffer);
      return;
    }
    this.#lists.set(size, [buffer]);
    this.#sizes.splice(this.#place(size), 0, size);
  }

  /** Removes and returns the smallest buffer of `least` to `most` bytes; undefined if there is none. */
  take(least: number, most: number): GPUBuffer | undefined {
    const size = this.#sizes[this.#place(least)];
    if (size === undefined || size > most) return undefined;
    const list = this.#lists.get(size)!;
    const buffer = list.pop();
    if (!list.length) this.#forget(size);
    return buffer;
  }

  /** Removes this buffer, if it is free. */
  remove(buffer: GPUBuffer, size: number): void {
    const list = this.#lists.get(size);
    const at = list?.indexOf(buffer) ?? -1;
    if (at < 0) return;
    list!.splice(at, 1);
    if (!list!.length) this.#forget(size);
  }

  /** Removes and returns all buffers. */
  clear(): GPUBuffer[] {
    const all = [...this.#lists.values()].flat();
    this.#lists.clear();
    this.#sizes.length = 0;
    return all;
  }

  #forget(size: number): void {
    this.#lists.delete(size);
    this.#sizes.splice(this.#place(size), 1);
  }

  /** Index of the first size of at least `size`, or where it would be. */
  #place(size: number): number {
    let [low, high] = [0, this.#sizes.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#sizes[middle]! < size) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
