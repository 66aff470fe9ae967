// Reads sizes from a WGSL text: of its bindings, its workgroup memory and its workgroups. They are checked against the device's
// limits and the tensors' sizes while an op is recorded, long before a driver could report anything. Sizes that the text does not
// give in plain numbers (overrides, attributes on members) are left to the driver.

interface Layout {
  readonly size: number;
  readonly align: number;
}

const scalars: Readonly<Record<string, number>> = { f32: 4, i32: 4, u32: 4, f16: 2, bool: 4 };
const suffixes: Readonly<Record<string, string>> = { f: 'f32', h: 'f16', i: 'i32', u: 'u32' };

const roundUp = (value: number, multiple: number): number => Math.ceil(value / multiple) * multiple;

/** The text without comments. */
export const withoutComments = (source: string): string =>
  source.replace(/\/\*[\s\S]*?\*\//g, ' ').replace(/\/\/[^\n]*/g, '');

/** The pieces of a list, split at commas outside of brackets. */
function split(list: string): string[] {
  const pieces: string[] = [];
  let depth = 0;
  let from = 0;
  for (let i = 0; i < list.length; i++) {
    if ('<([{'.includes(list[i]!)) depth++;
    else if ('>)]}'.includes(list[i]!)) depth--;
    else if (list[i] === ',' && depth === 0) {
      pieces.push(list.slice(from, i));
      from = i + 1;
    }
  }
  return [...pieces, list.slice(from)].map((piece) => piece.trim()).filter((piece) => piece !== '');
}

/** Reads sizes off one text (without comments). */
export class WgslSizes {
  readonly #text: string;
  readonly #busy = new Set<string>();

  constructor(text: string) {
    this.#text = text;
  }

  /** Threads of a workgroup along x, y, z; undefined where the text computes them. */
  workgroupSize(): [number, number, number] | undefined {
    const list = /@workgroup_size\(([^)]*)\)/.exec(this.#text)?.[1];
    const sizes = list === undefined ? [] : split(list).map((piece) => this.#integer(piece));
    const [x, y = 1, z = 1] = sizes;
    return x === undefined || sizes.includes(undefined) ? undefined : [x, y, z];
  }

  /** Bytes of the workgroup memory that is used; undefined where the text computes them. */
  workgroupBytes(): number | undefined {
    let bytes = 0;
    for (const [, name, type] of this.#text.matchAll(/var<workgroup>\s*(\w+)\s*:\s*([^;=]+)[;=]/g)) {
      if ((this.#text.match(new RegExp(`\\b${name}\\b`, 'g')) ?? []).length < 2) continue;
      const layout = this.#layout(type!);
      if (!layout) return undefined;
      bytes += roundUp(layout.size, 16);
    }
    return bytes;
  }

  /** The fewest bytes that may be bound to a buffer's variable; for an array without a length, one element. */
  leastBytes(name: string): number | undefined {
    const type = new RegExp(`var<[^>]*>\\s*${name}\\s*:\\s*([^;]+);`).exec(this.#text)?.[1];
    return type === undefined ? undefined : this.#layout(type)?.size;
  }

  /** Whether every use of a variable is `name[…] = …` or its length, so that nothing is read from it. */
  onlyStores(name: string): boolean {
    const text = this.#text;
    for (const { index } of text.matchAll(new RegExp(`\\b${name}\\b`, 'g'))) {
      const before = text.slice(0, index).trimEnd();
      const after = text.slice(index + name.length);
      if (/var<storage[^>]*>$/.test(before)) continue;
      if (/arrayLength\(\s*&$/.test(before)) continue;
      if (!/[{};]$/.test(before) || !/^\s*\[/.test(after)) return false;
      let depth = 0;
      let end = 0;
      do {
        if (after[end] === '[') depth++;
        if (after[end] === ']') depth--;
        end++;
      } while (end < after.length && (depth > 0 || !after.slice(0, end).includes('[')));
      if (!/^\s*=(?!=)/.test(after.slice(end))) return false;
    }
    return true;
  }

  #layout(written: string): Layout | undefined {
    const type = written.trim();
    const scalar = scalars[type];
    if (scalar !== undefined) return { size: scalar, align: scalar };
    const vector = /^vec([234])(?:<\s*(\w+)\s*>|([fhiu]))$/.exec(type);
    if (vector) return this.#vector(Number(vector[1]), vector[2] ?? suffixes[vector[3]!]!);
    const matrix = /^mat([234])x([234])(?:<\s*(\w+)\s*>|([fh]))$/.exec(type);
    if (matrix) {
      const column = this.#vector(Number(matrix[2]), matrix[3] ?? suffixes[matrix[4]!]!);
      return column && { size: Number(matrix[1]) * roundUp(column.size, column.align), align: column.align };
    }
    if (/^atomic<[\s\S]*>$/.test(type)) return { size: 4, align: 4 };
    const array = /^array<([\s\S]*)>$/.exec(type);
    if (array) {
      const [of, length] = split(array[1]!);
      const element = of === undefined ? undefined : this.#layout(of);
      const count = length === undefined ? 1 : this.#integer(length);
      return element && count !== undefined
        ? { size: count * roundUp(element.size, element.align), align: element.align }
        : undefined;
    }
    return /^\w+$/.test(type) ? this.#once(type, () => this.#named(type)) : undefined;
  }

  #vector(count: number, of: string): Layout | undefined {
    const size = scalars[of];
    return size === undefined ? undefined : { size: count * size, align: (count === 3 ? 4 : count) * size };
  }

  #named(name: string): Layout | undefined {
    const alias = new RegExp(`\\balias\\s+${name}\\s*=\\s*([^;]+);`).exec(this.#text)?.[1];
    if (alias !== undefined) return this.#layout(alias);
    const members = new RegExp(`\\bstruct\\s+${name}\\s*\\{([^}]*)\\}`).exec(this.#text)?.[1];
    if (members === undefined || members.includes('@')) return undefined;
    let size = 0;
    let align = 1;
    for (const member of split(members)) {
      const layout = this.#layout(member.slice(member.indexOf(':') + 1));
      if (!layout) return undefined;
      size = roundUp(size, layout.align) + layout.size;
      align = Math.max(align, layout.align);
    }
    return { size: roundUp(size, align), align };
  }

  /** Runs `work` unless it is running for this name already: a type or constant that refers to itself has no size. */
  #once<T>(name: string, work: () => T): T | undefined {
    if (this.#busy.has(name)) return undefined;
    this.#busy.add(name);
    try {
      return work();
    } finally {
      this.#busy.delete(name);
    }
  }

  /** The value of an expression of whole numbers and constants; undefined for any other. */
  #integer(expression: string): number | undefined {
    const tokens = expression.match(/\w+|[^\s\w]/g) ?? [];
    let at = 0;
    const factor = (): number | undefined => {
      const token = tokens[at++];
      if (token === undefined) return undefined;
      if (token === '(') {
        const inner = sum();
        return tokens[at++] === ')' ? inner : undefined;
      }
      if (/^\d+[iu]?$/.test(token)) return Number.parseInt(token, 10);
      if (/^0x[0-9a-f]+[iu]?$/i.test(token)) return Number.parseInt(token, 16);
      if (!/^[A-Za-z_]\w*$/.test(token)) return undefined;
      const value = new RegExp(`\\bconst\\s+${token}\\s*(?::\\s*\\w+\\s*)?=\\s*([^;]+);`).exec(this.#text)?.[1];
      return value === undefined ? undefined : this.#once(token, () => this.#integer(value));
    };
    const chain = (next: () => number | undefined, operators: string): number | undefined => {
      let value = next();
      while (value !== undefined && at < tokens.length && operators.includes(tokens[at]!)) {
        const operator = tokens[at++]!;
        const right = next();
        if (right === undefined) return undefined;
        if (operator === '+') value += right;
        else if (operator === '-') value -= right;
        else if (operator === '*') value *= right;
        else value = operator === '/' ? Math.trunc(value / right) : value % right;
      }
      return value;
    };
    const product = (): number | undefined => chain(factor, '*/%');
    const sum = (): number | undefined => chain(product, '+-');
    const value = sum();
    return at === tokens.length && value !== undefined && Number.isFinite(value) ? value : undefined;
  }
}
