// HTML text that is escaped unless it is markup already: what comes from file names, settings and logs cannot become a tag.

/** Text that is markup, made by `html` or `raw` only. */
export interface Markup {
  readonly markup: string;
}

type Value = Markup | string | number | undefined | false | readonly Value[];

/** Text for HTML: the five characters that mean something there are replaced. */
function escapeText(text: string): string {
  return text
    .replace(/&/g, '&amp;')
    .replace(/</g, '&lt;')
    .replace(/>/g, '&gt;')
    .replace(/"/g, '&quot;')
    .replace(/'/g, '&#39;');
}

/** Declares text to be markup. */
export const raw = (markup: string): Markup => ({ markup });

function textOf(value: Value): string {
  if (value === undefined || value === false) return '';
  if (typeof value === 'string') return escapeText(value);
  if (typeof value === 'number') return String(value);
  return 'markup' in value ? value.markup : value.map(textOf).join('');
}

/** A template whose values are escaped; lists are joined, undefined and false leave nothing. */
export const html = (parts: TemplateStringsArray, ...values: readonly Value[]): Markup =>
  raw(parts.map((part, i) => part + (i < values.length ? textOf(values[i]) : '')).join(''));

/** JSON for a script element: no `<`, so that nothing in it can end the element. */
export const jsonFor = (data: unknown): Markup => raw(JSON.stringify(data).replace(/</g, '\\u003c'));
