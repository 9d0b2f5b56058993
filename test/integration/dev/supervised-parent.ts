/** A parent to be killed: starts a supervisor with the options given as JSON, says so, and stays. */
import { startSupervisor } from '../../../src/dev/supervisor.ts';

const supervisor = await startSupervisor(JSON.parse(process.argv[2] ?? '{}'));
process.stdout.write(`${JSON.stringify({ supervisor: supervisor.pid, ...supervisor.status() })}\n`);
setInterval(() => {}, 60_000);
