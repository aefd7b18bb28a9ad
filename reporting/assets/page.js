"use strict";
(() => {
  const root = document.documentElement;
  root.classList.add("scripted");
  const pictures = JSON.parse(document.getElementById("pictures").textContent);
  const byId = (id) => document.getElementById(id);
  const fill = (text, ...values) => text.replace(/\{(\d)\}/g, (_, i) => values[i]);
  const element = (name, properties = {}, ...children) => {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  };

  // A page opened as a file, or with storage switched off, may refuse to remember.
  const remembered = (...theme) => {
    try {
      return theme.length ? localStorage.setItem("theme", ...theme) : localStorage.getItem("theme");
    } catch {
      return null;
    }
  };
  if (["light", "dark"].includes(remembered())) root.dataset.theme = remembered();
  byId("theme").addEventListener("click", () => {
    const systemIsDark = matchMedia("(prefers-color-scheme: dark)").matches;
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : systemIsDark;
    root.dataset.theme = dark ? "light" : "dark";
    remembered(root.dataset.theme);
  });

  const viewer = byId("viewer");
  for (const button of document.querySelectorAll(".enlarge")) {
    button.addEventListener("click", () => {
      byId("large").replaceChildren(...[...button.children].map((part) => part.cloneNode(true)));
      byId("large-caption").textContent = button.dataset.title;
      viewer.classList.toggle("plate", !button.matches(".chart"));
      viewer.showModal();
    });
  }
  byId("close").addEventListener("click", () => viewer.close());
  viewer.addEventListener("click", (event) => { if (event.target === viewer) viewer.close(); });

  const strip = (picture, captions) => element("ul", { className: "strip" }, ...captions.map((caption, i) => {
    const face = element("span");
    face.style.backgroundImage = `url(${picture})`;
    face.style.backgroundSize = `${100 * captions.length}% 100%`;
    face.style.backgroundPosition = captions.length > 1 ? `${100 * i / (captions.length - 1)}% 0` : "0 0";
    return element("li", {}, face, caption);
  }));

  for (const button of document.querySelectorAll(".filter")) {
    button.addEventListener("click", () => {
      const isOpen = button.getAttribute("aria-expanded") === "true";
      for (const other of document.querySelectorAll(".filter")) {
        const opens = other === button && !isOpen;
        other.setAttribute("aria-expanded", String(opens));
        byId(other.getAttribute("aria-controls")).hidden = !opens;
      }
    });
  }

  const showHints = () => {
    for (const hint of document.querySelectorAll(".swipe")) {
      const wide = hint.nextElementSibling;
      hint.hidden = wide.scrollWidth <= wide.clientWidth;
    }
  };
  addEventListener("resize", showHints);
  document.addEventListener("toggle", showHints, true);
  showHints();

  const cells = [...document.querySelectorAll(".cell")];
  cells.forEach((cell, at) => {
    cell.addEventListener("click", () => {
      cells.forEach((other) => other.setAttribute("aria-pressed", String(other === cell)));
      const found = pictures.confusion[cell.dataset.cell];
      const faces = byId("faces");
      const shown = found ? [element("p", {}, fill(faces.dataset.text, found.confidence.length, found.count)),
        strip(found.strip, found.confidence.map((share) => `${share}${root.lang === "en" ? " " : ""}%`))] : [];
      faces.replaceChildren(element("p", {}, cell.getAttribute("aria-label")), ...shown);
    });
    cell.addEventListener("keydown", (event) => {
      const width = Math.sqrt(cells.length);
      const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -width, ArrowDown: width };
      const step = steps[event.key];
      if (step && cells[at + step]) {
        event.preventDefault();
        cells[at + step].focus();
      }
    });
  });

  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const paint = (canvas, color) => {
    const context = canvas.getContext("2d");
    const image = context.createImageData(canvas.width, canvas.height);
    for (let i = 0; i < canvas.width * canvas.height; i += 1) image.data.set([...color(i), 255], 4 * i);
    context.putImageData(image, 0, 0);
  };
  const show = () => {
    const option = byId("slider-face").selectedOptions[0];
    const face = pictures.saliency[option.value];
    const share = Number(byId("slider-share").value);
    const grey = bytes(face.grey);
    const rank = new Uint16Array(bytes(face.rank).buffer);
    const mean = grey.reduce((sum, value) => sum + value, 0) / grey.length;
    const left = Math.round(share / 100 * grey.length);
    paint(byId("canvas-original"), (i) => [grey[i], grey[i], grey[i]]);
    byId("heat").src = face.heat;
    paint(byId("canvas-masked"), (i) => Array(3).fill(rank[i] < left ? grey[i] : mean));
    const probability = face.kept[share].toFixed(2);
    const output = byId("slider-output");
    output.textContent = fill(output.dataset.text, option.dataset.target, share, probability);
  };
  if (byId("slider-face")) {
    byId("slider-face").addEventListener("change", show);
    byId("slider-share").addEventListener("input", show);
    show();
  }
})();
