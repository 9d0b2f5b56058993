/** Hashes, install scripts and licences of all dependencies, other platforms' included. */
import { readFileSync } from 'node:fs';
import { dependencyFaults } from './dependency-rules.ts';

const read = name => JSON.parse(readFileSync(new URL(`../${name}`, import.meta.url), 'utf8'));
const faults = dependencyFaults(read('package-lock.json'), read('package.json'));
for (const fault of faults) console.error(fault);
process.exit(faults.length === 0 ? 0 : 1);
