// Builds all pages, folds run.html into one file, says how large everything is, and puts each page where its server looks for it.
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "vite";

const web = dirname(dirname(fileURLToPath(import.meta.url)));
const dist = join(web, "dist");
const LARGEST = 500 * 1000; // bytes, gzipped, of one page with everything that it may load
process.chdir(web);

await build({ configFile: "vite.config.ts", logLevel: "error" });
await build({ configFile: "vite.run.config.ts", logLevel: "error" });
foldRunViewer();

const assets = join(dist, "assets");
const reach = { local: reached("local.html"), dashboard: reached("dashboard.html") };
for (const [page, files] of Object.entries(reach)) {
  const size = [...files].reduce(
    (sum, file) => sum + gzipped(join(dist, file)),
    gzipped(join(dist, `${page}.html`)),
  );
  console.log(`${page}.html: ${files.size} files, ${(size / 1000).toFixed(0)} kB gzipped`);
  if (size > LARGEST)
    throw new Error(`${page}.html and what it loads are ${size} bytes gzipped; at most ${LARGEST}.`);
}
console.log(`run-viewer.html: ${(gzipped(join(dist, "run-viewer.html")) / 1000).toFixed(0)} kB gzipped`);

place(join(web, "..", "sdk", "src", "eval_protocol", "ui", "bundle"), ["local.html"], reach.local);
place(
  join(web, "..", "platform", "src", "tunesmith", "server", "dashboard", "bundle"),
  ["dashboard.html", "run-viewer.html"],
  reach.dashboard,
);

function gzipped(file) {
  return gzipSync(readFileSync(file), { level: 9 }).length;
}

/** Files under assets/ that a page can load, directly or through other files. */
function reached(page) {
  const names = readdirSync(assets);
  const found = new Set();
  const follow = (file) => {
    const text = readFileSync(join(dist, file), "utf8");
    for (const name of names) {
      if (text.includes(name) && !found.has(`assets/${name}`)) {
        found.add(`assets/${name}`);
        if (/\.(js|css)$/.test(name)) follow(`assets/${name}`);
      }
    }
  };
  follow(page);
  return found;
}

function place(folder, pages, files) {
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(join(folder, "assets"), { recursive: true });
  for (const file of [...pages, ...files]) cpSync(join(dist, file), join(folder, file));
}

function foldRunViewer() {
  const folder = join(dist, "run");
  const only = (extension) => {
    const names = existsSync(join(folder, "assets"))
      ? readdirSync(join(folder, "assets")).filter((name) => name.endsWith(extension))
      : [];
    if (names.length !== 1)
      throw new Error(`run.html should have one ${extension} file, not ${names.length}.`);
    return readFileSync(join(folder, "assets", names[0]), "utf8");
  };
  const script = only(".js").replaceAll("</script", "<\\/script").replaceAll("<!--", "<\\!--");
  const html = readFileSync(join(folder, "run.html"), "utf8")
    .replace(/<script type="module"[^>]*><\/script>/, "")
    .replace(/<link rel="stylesheet"[^>]*>/, () => `<style>${only(".css")}</style>`)
    .replace("</body>", () => `<script type="module" id="run-viewer">${script}</script></body>`);
  writeFileSync(join(dist, "run-viewer.html"), html);
  rmSync(folder, { recursive: true });
}
