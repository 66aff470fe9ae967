// The page's elements by their id, with the type that they have in index.html.

type Kinds = {
  input: HTMLInputElement;
  button: HTMLButtonElement;
  output: HTMLOutputElement;
  select: HTMLSelectElement;
};

const of =
  <K extends keyof Kinds>(kind: K) =>
  (id: string): Kinds[K] => {
    const found = document.getElementById(id);
    if (found?.localName !== kind) throw new Error(`internal: index.html has no <${kind} id="${id}">`);
    return found as Kinds[K];
  };

export const input = of('input');
export const button = of('button');
export const output = of('output');
export const select = of('select');

/** Any element. */
export function element<E extends HTMLElement = HTMLElement>(id: string): E {
  const found = document.getElementById(id);
  if (!found) throw new Error(`internal: index.html has no element '${id}'`);
  return found as E;
}
