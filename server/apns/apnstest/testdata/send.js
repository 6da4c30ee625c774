// Sends the pushes that standard input lists, one after the other, and prints for
// each why it was refused, or null.
'use strict';

const apn = require('@parse/node-apn');

async function main(text) {
  const { port, ca, key, keyId, teamId, pushes } = JSON.parse(text);
  const said = [];
  for (const push of pushes) {
    const provider = new apn.Provider({
      token: { key, keyId: push.keyId || keyId, teamId: push.teamId || teamId },
      address: '127.0.0.1', port, ca,
    });
    const { failed } = await provider.send(new apn.Notification(push.notification), push.token);
    const [failure] = failed;
    said.push(failure ? (failure.response ? failure.response.reason : String(failure.error)) : null);
    await provider.shutdown();
  }
  process.stdout.write(JSON.stringify(said));
}

const input = [];
process.stdin.on('data', chunk => input.push(chunk));
process.stdin.on('end', () => main(Buffer.concat(input).toString()).catch(error => {
  console.error(error);
  process.exitCode = 1;
}));
