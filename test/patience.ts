/**
 * Milliseconds after which what a test waits for is taken to never happen. It is long, because a busy machine may take ten times as
 * long as an idle one, and shorter than the runner's own limit, so that the test itself says what did not happen.
 */
export const patience = 600_000;
