#!/usr/bin/env node
/** The command `offsite`: the built command line under Node 24, set up first on a fresh clone. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import {
  exitLike,
  findNode24,
  isNewEnough,
  NEEDED_NODE_MAJOR,
  onNpmDeath,
  root,
  runNode,
} from './launch.mjs';

const bootstrapScript = join(root, 'scripts', 'bootstrap.mjs');
if (existsSync(bootstrapScript) && !process.env.OFFSITE_NO_BOOTSTRAP) {
  const { bootstrap } = await import(bootstrapScript);
  await bootstrap({ withTemporal: false });
}

const starter = join(root, 'dist', 'starter.js');
const node = findNode24();
if (node === null) {
  console.error(`offsite: needs Node ${NEEDED_NODE_MAJOR} or newer, this is ${process.version}`);
  process.exit(1);
}
if (isNewEnough) {
  onNpmDeath(() => process.kill(process.pid, 'SIGTERM'));
  process.argv[1] = starter;
  await import(starter);
} else {
  exitLike(await runNode(node, [starter, ...process.argv.slice(2)]));
}
