/** Receives and seals a fixed layer, stand-alone or not, and dies by SIGKILL at the step whose number it is given. */
import { receiveFixedLayer, receiveFixedStandAlone } from './replica-fixtures.ts';

const [kind, directory, dieAtStep] = process.argv.slice(2) as [string, string, string];
const receive = kind === 'standAlone' ? receiveFixedStandAlone : receiveFixedLayer;
let step = 0;
await receive(directory, () => {
  if (step === Number(dieAtStep)) process.kill(process.pid, 'SIGKILL');
  step += 1;
});
