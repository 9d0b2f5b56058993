/** `node scripts/run24.mjs FILE ARGS`: runs a script under Node 24, whatever Node runs this. */
import { exitLike, findNode24, runNode } from '../bin/launch.mjs';

const node = findNode24();
if (node === null) {
  console.error('node_modules/node is missing: run `node scripts/bootstrap.mjs` first');
  process.exit(1);
}
exitLike(await runNode(node, process.argv.slice(2)));
