/** One breach of what must always hold. */
export interface Violation {
  /** The number in section 9 of the design. */
  readonly rule: 1 | 2 | 3 | 4 | 5 | 6;
  /** Stable, for tests. */
  readonly code: string;
  /** What is wrong, with the names that say where. */
  readonly text: string;
}

export async function collect(violations: AsyncIterable<Violation>): Promise<Violation[]> {
  const found: Violation[] = [];
  for await (const violation of violations) found.push(violation);
  return found;
}
