// Numbers and commands as text.

export const count = (number) => Math.round(number).toLocaleString("en");

// Such as "1/210 of the original file".
export function share(small, large) {
  return large > small ? `1/${count(large / small)} of the original file, ${size(large)}` : `the original file has ${size(large)}`;
}

function size(bytes) {
  if (bytes < 10_000) return `${count(bytes)} bytes`;
  return bytes < 1e6 ? `${count(bytes / 1e3)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

// A file name as a shell takes it.
function quoted(name) {
  if (/^[\w.,@%+:/-]+$/.test(name) && !name.startsWith("-")) return name;
  return `'${(name.startsWith("-") ? `./${name}` : name).replaceAll("'", "'\\''")}'`;
}

export const stem = (name) => name.replace(/\.[^.]*$/, "") || "picture";

// What `rdeic` would be told to do the same. `source` is null where only an .rdeic file was opened.
export function commands({ source, file, goal, background, detail, steps, fileSteps }) {
  const lines = [];
  if (source) {
    const wish = goal.max_bytes === null ? `--quality ${goal.quality}` : `--bytes ${goal.max_bytes}`;
    lines.push(`rdeic compress ${quoted(source)} ${wish}${background ? ` --background ${background}` : ""}`);
  }
  const choices = `${detail === 1 ? "" : ` --detail ${detail}`}${steps === fileSteps ? "" : ` --steps ${steps}`}`;
  lines.push(`rdeic decompress ${quoted(file)}${choices} -o ${quoted(`${stem(file)}.restored.png`)}`);
  return lines.join("\n");
}

export function seconds(number) {
  return number < 10 ? `${Math.max(1, Math.round(number))} s` : number < 90 ? `${Math.round(number / 5) * 5} s` : `${Math.round(number / 60)} min`;
}

// The header of a file as pairs for a list.
export function header(info) {
  const stored = info.stored_width !== info.width || info.stored_height !== info.height;
  return [
    ["Picture", `${info.width} × ${info.height}`],
    ...(stored ? [["Stored as", `${info.stored_width} × ${info.stored_height}`]] : []),
    ["Quality", info.quality],
    ["Denoising steps", info.steps],
    ["Seed", info.seed],
    ["Model", info.fingerprint],
    ["File", `${count(info.file_bytes)} bytes`],
    ["Rate", `${info.bpp.toFixed(4)} bits per pixel`],
    ...Object.entries(info.metadata ?? {}).map(([key, value]) => [key[0].toUpperCase() + key.slice(1), value]),
  ];
}
