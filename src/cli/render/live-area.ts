/** Lines at the end of a terminal that are drawn anew in place. */

const ESC = '\u001b[';

export class LiveArea {
  readonly #write: (text: string) => void;
  #lines = 0;

  constructor(write: (text: string) => void) {
    this.#write = write;
  }

  /** Replaces what was drawn before. Lines must fit the terminal's width, or they wrap and leave traces. */
  draw(lines: readonly string[]): void {
    const up = this.#lines === 0 ? '' : `${ESC}${this.#lines}A`;
    this.#write(`${up}${lines.map(line => `\r${line}${ESC}K\n`).join('')}${ESC}J`);
    this.#lines = lines.length;
  }

  /** Leaves what was drawn and begins below it. */
  settle(): void {
    this.#lines = 0;
  }
}
