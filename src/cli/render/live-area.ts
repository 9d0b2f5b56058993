/** Lines at the end of a terminal that are drawn anew in place. */

const ESC = '\u001b[';

export class LiveArea {
  readonly #write: (text: string) => void;
  readonly #columns: () => number;
  #drawn: readonly string[] = [];

  /** @param columns the terminal's width now: where it became narrower, what was drawn takes more lines */
  constructor(write: (text: string) => void, columns: () => number) {
    this.#write = write;
    this.#columns = columns;
  }

  /** Replaces what was drawn before. Lines must fit the terminal's width, or they wrap and leave traces. */
  draw(lines: readonly string[]): void {
    const columns = Math.max(1, this.#columns());
    const height = this.#drawn.reduce((sum, line) => sum + Math.max(1, Math.ceil(line.length / columns)), 0);
    const up = height === 0 ? '' : `${ESC}${height}A`;
    this.#write(`${up}${lines.map(line => `\r${line}${ESC}K\n`).join('')}${ESC}J`);
    this.#drawn = lines;
  }

  /** Leaves what was drawn and begins below it. */
  settle(): void {
    this.#drawn = [];
  }

  /** Leaves what was drawn, without the `^C` that a terminal shows of the key. */
  end(): void {
    if (this.#drawn.length > 0) this.#write(`\r${ESC}J`);
    this.settle();
  }
}
