/** Lines for an output that cannot be redrawn: each subject's line is written when it has changed. */
export class ChangedLines {
  readonly #write: (line: string) => void;
  readonly #last = new Map<string, string>();

  constructor(write: (line: string) => void) {
    this.#write = write;
  }

  /**
   * @param subject what the line is about; that it vanishes for a while and comes back unchanged is no news
   * @param news what must change for the line to be written; by default the line itself
   */
  tell(subject: string, line: string, news = line): void {
    if (this.#last.get(subject) === news) return;
    this.#last.set(subject, news);
    this.#write(line);
  }
}
