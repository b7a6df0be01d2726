// Makes the imports in what jco generates plain function calls. jco runs each as a
// task of the asynchronous component model, with a subtask, two closures and a dozen
// objects, whether or not anything is asynchronous, and a token request has sixty of
// them: two fifths of the processor time that it takes. Here all imports are
// synchronous, of one component that nothing else runs in, so nobody asks for a task.
// What converts arguments and results, keeps resources and tells traps stays jco's.
//
// Each replacement has to fit every import, so that a jco that generates something
// else fails the build. To do without: leave this out of `build.mjs`.

/** What stands before the call: the task is made and entered. */
const ENTER =
  /_debugLog\('\[iface=[^\n]*\[Instruction::CallInterface\] \(sync, @ enter\)'\);\n\s*const hostProvided = true;\n[\s\S]*?\n\s*const started = task\.enterSync\(\);\n/;

/** The call, inside what makes the task current. */
const CALL =
  /_withGlobalCurrentTaskMeta\(\{\n\s*componentIdx: task\.componentIdx\(\),\n\s*taskID: task\.id\(\),\n\s*fn: \(\) => _trackHostOperation\(\(\) => ([\s\S]*?)\),\n\s*\}\)\n/;

/** What the task is told of an error, where the import gives no `result`. */
const FAIL =
  /_debugLog\('\[Instruction::CallInterface\] error during sync call', \{[\s\S]*?\}\);\n(\s*getOrCreateAsyncState\(0\)\.markTrapped\(err\);\n)\s*task\.setErrored\(err\);\n\s*task\.reject\(err\);\n\s*task\.exit\(\);\n/;

/** What stands behind the call: the result is told to the task, which is left. */
const LEAVE =
  /_debugLog\('\[iface=[^\n]*\[Instruction::Return\]', \{[\s\S]*?\}\);\n\s*task\.resolve\(\[[^\n]*\]\);\n\s*task\.exit\(\);\n/;

/** The generated code with imports that are called as they are. */
export function synchronous(code) {
  const numbers = [...code.matchAll(/^ {2}const _trampoline(\d+) = function/gm)].map(([, number]) => number);
  if (numbers.length === 0) throw unknown('there are no imports');
  for (const number of numbers) {
    code = replaced(code, new RegExp(`^ {2}const _trampoline${number} = function[\\s\\S]*?^ {2}_trampoline${number}\\.fnName`, 'm'), (all) => {
      let body = replaced(all, ENTER, () => '');
      body = replaced(body, CALL, (_, call) => `${call}\n`);
      if (FAIL.test(body)) body = replaced(body, FAIL, (_, kept) => kept);
      body = replaced(body, LEAVE, () => '');
      if (/\btask\b/.test(body)) throw unknown(`the import ${number} does more with its task`);
      return body;
    });
    code = replaced(
      code,
      new RegExp(`^ {2}let trampoline${number} = _trampoline${number}\\.manuallyAsync \\? [\\s\\S]*?\\n {2}\\);\\n`, 'm'),
      () => `  let trampoline${number} = _trampoline${number};\n`,
    );
  }
  return code;
}

function replaced(code, pattern, replacement) {
  if (!pattern.test(code)) throw unknown(`it has no ${pattern}`);
  return code.replace(pattern, replacement);
}

const unknown = (what) => new Error(`jco generates other code than scripts/synchronous.mjs knows: ${what}`);
