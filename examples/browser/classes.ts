// Names and colours of classes. Colours are after Okabe & Ito (2008), light enough to be seen on grey images.
export type Color = readonly [red: number, green: number, blue: number];

const colors: Color[] = [
  [0, 0, 0],
  [240, 161, 60],
  [90, 180, 240],
  [55, 199, 154],
  [238, 134, 191],
  [180, 155, 242],
  [240, 228, 66],
  [213, 94, 0],
];
const cardiac = ['Background', 'Right ventricle', 'Myocardium', 'Left ventricle'];

/** Colour of class k; they repeat after seven. */
export const colorOf = (k: number): Color => (k === 0 ? colors[0]! : colors[1 + ((k - 1) % (colors.length - 1))]!);

/** Names of `count` classes: ACDC's for four, numbers else. */
export const classNames = (count: number): string[] =>
  Array.from({ length: count }, (_, k) => (count === 4 ? cardiac[k]! : k === 0 ? 'Background' : `Class ${k}`));
