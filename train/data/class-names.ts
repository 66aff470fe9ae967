// What classes are called where the data set does not say.

/** Label values are indices into this list. */
export const cardiacClasses = ['background', 'right ventricle', 'myocardium', 'left ventricle'] as const;

/** Names of so many classes, the background first: ACDC's for four, numbers otherwise. */
export const namesOfClasses = (count: number): string[] =>
  count === cardiacClasses.length
    ? [...cardiacClasses]
    : Array.from({ length: count }, (_, k) => (k ? `class ${k}` : 'background'));
