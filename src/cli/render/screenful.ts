/** What of a running task fits a terminal's height: lines beyond it would scroll away and leave traces. */

export interface TaskLines {
  readonly head: readonly string[];
  /** Retries, waits and warnings. */
  readonly notes: readonly string[];
  /** One line a disk. */
  readonly disks: readonly { readonly line: string; readonly isDone: boolean }[];
}

/**
 * At most `rows` lines: the head first, then the notes, then the disks. Where they do not fit, disks that are not done
 * yet go before those that are, and a line says what was left out.
 */
export function screenful({ head, notes, disks }: TaskLines, rows: number): string[] {
  const top = head.slice(0, Math.max(1, rows));
  const room = rows - top.length;
  const notesRoom = Math.max(Math.ceil(room / 2), room - disks.length);
  const said = withinRoom(notes, notesRoom);
  return [...top, ...said, ...disksWithin(disks, room - said.length)];
}

function withinRoom(lines: readonly string[], room: number): string[] {
  if (lines.length <= room) return [...lines];
  if (room <= 0) return [];
  return [...lines.slice(0, room - 1), `  … and ${lines.length - room + 1} more lines`];
}

function disksWithin(disks: TaskLines['disks'], room: number): string[] {
  if (disks.length <= room) return disks.map(({ line }) => line);
  if (room <= 0) return [];
  const byNeed = disks.toSorted((left, right) => Number(left.isDone) - Number(right.isDone));
  const shown = new Set(byNeed.slice(0, room - 1));
  const hidden = disks.filter(disk => !shown.has(disk));
  const done = hidden.filter(({ isDone }) => isDone).length;
  const rest = `  … and ${hidden.length} more disks: ${done} done, ${hidden.length - done} not`;
  return [...disks.filter(disk => shown.has(disk)).map(({ line }) => line), rest];
}
