/** A block of which only parts were written: what lies beneath, and disjoint pieces above. */

/** Bytes of a block: [start, end), at a place of the journal; zeros where it is null. */
export interface Piece {
  readonly start: number;
  readonly end: number;
  readonly place: number | null;
}

export class OverlaidBlock {
  /** What shows between the pieces: the base image, zeros, or a whole block's place in the journal. */
  readonly beneath: 'base' | 'zeros' | number;
  #pieces: readonly Piece[] = [];

  constructor(beneath: 'base' | 'zeros' | number) {
    this.beneath = beneath;
  }

  /** Disjoint, in no order. */
  get pieces(): readonly Piece[] {
    return this.#pieces;
  }

  /** Puts a piece above all others: what it hides of them is cut off. */
  put(piece: Piece): void {
    this.#pieces = [...this.#pieces.flatMap(other => without(other, piece)), piece];
  }
}

/** What is left of a piece beside another. */
function without(piece: Piece, hidden: Piece): Piece[] {
  if (hidden.end <= piece.start || piece.end <= hidden.start) return [piece];
  const rest: Piece[] = [];
  if (piece.start < hidden.start) rest.push({ ...piece, end: hidden.start });
  if (hidden.end < piece.end) {
    const place = piece.place === null ? null : piece.place + (hidden.end - piece.start);
    rest.push({ start: hidden.end, end: piece.end, place });
  }
  return rest;
}
