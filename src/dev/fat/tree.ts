/** The directory tree of the files of a volume. */
import { FatError } from './fat-error.ts';

export interface FatFile {
  /** Relative, with `/` between its parts; the directories above it are made. */
  readonly path: string;
  readonly bytes: Uint8Array;
  /** By default the time of the volume. */
  readonly modifiedAt?: Date;
}

export interface FileNode {
  readonly kind: 'file';
  readonly path: string;
  readonly file: FatFile;
}

export interface DirectoryNode {
  readonly kind: 'directory';
  /** Empty for the root. */
  readonly path: string;
  readonly parent: DirectoryNode | null;
  readonly children: Map<string, FileNode | DirectoryNode>;
}

/** @throws {FatError} when a path is given twice or is a file and a directory */
export function buildTree(files: readonly FatFile[]): DirectoryNode {
  const root: DirectoryNode = { kind: 'directory', path: '', parent: null, children: new Map() };
  // In order of path, so that the order in which the files are given leaves no trace.
  for (const file of files.toSorted((left, right) => compareText(left.path, right.path))) {
    const parts = file.path.split('/');
    const name = parts.pop() ?? '';
    let directory = root;
    for (const part of parts) directory = enter(directory, part);
    if (directory.children.has(name)) throw new FatError(`"${file.path}" is there twice`);
    directory.children.set(name, { kind: 'file', path: file.path, file });
  }
  return root;
}

/** All nodes beneath a directory, a directory before its children. */
export function* walk(directory: DirectoryNode): Generator<FileNode | DirectoryNode, undefined> {
  for (const child of directory.children.values()) {
    yield child;
    if (child.kind === 'directory') yield* walk(child);
  }
}

function enter(directory: DirectoryNode, name: string): DirectoryNode {
  const present = directory.children.get(name);
  if (present?.kind === 'file') throw new FatError(`"${present.path}" is a file and a directory`);
  if (present !== undefined) return present;
  const path = directory.path === '' ? name : `${directory.path}/${name}`;
  const fresh: DirectoryNode = { kind: 'directory', path, parent: directory, children: new Map() };
  directory.children.set(name, fresh);
  return fresh;
}

const compareText = (left: string, right: string): number => (left < right ? -1 : left > right ? 1 : 0);
