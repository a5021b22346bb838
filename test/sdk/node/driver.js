// SPDX-License-Identifier: Apache-2.0

// Drives one SDK: node driver.js <module> <face>. The module, such as
// co-wechat-api.js, exports one function for each face of its SDK; it takes
// what the SDK's user is told and returns the steps.
//
// Standard input has one JSON object a line: first what the user is told, then
// steps such as {"step":"send","text":"…"}. Each line is answered by one:
// {"value":…}, bytes in base64, or {"error":…}, what the SDK shows of an error.
'use strict';

const readline = require('node:readline');

const RealDate = Date;
let passed = 0; // milliseconds

// The SDKs' clock: the real one, and what the step "later" has added to it.
globalThis.Date = class Date extends RealDate {
  constructor(...given) {
    super(...(given.length ? given : [Date.now()]));
  }

  static now() {
    return RealDate.now() + passed;
  }
};

const later = ({ seconds }) => {
  passed += seconds * 1000;
};

async function main(sdk, face) {
  let steps = {
    start: async (told) => {
      steps = { later, ...(await require(`./${sdk}.js`)[face](told)) };
      return require(`${sdk}/package.json`).version;
    },
  };
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const { step, ...given } = JSON.parse(line);
    let answer;
    try {
      const value = await steps[step](given);
      answer = { value: Buffer.isBuffer(value) ? value.toString('base64') : value };
    } catch (error) {
      answer = { error: [error.code, error.message].filter(Boolean).join(' ') };
    }
    process.stdout.write(`${JSON.stringify(answer)}\n`);
  }
}

main(...process.argv.slice(2)).then(() => process.exit());
