// Run in a page of the dashboard by the tests: what somebody could not read or name there.
// An expression, whose value is a list of what is wrong.
(() => {
  const context = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });

  // Colours are painted one over the other, as the browser does; the notation is its affair.
  function painted(colours) {
    for (const colour of ["white", ...colours]) {
      context.fillStyle = colour;
      context.fillRect(0, 0, 1, 1);
    }
    return [...context.getImageData(0, 0, 1, 1).data].slice(0, 3);
  }

  // Relative luminance, and the contrast of two, as WCAG 2 defines them.
  function luminance(colour) {
    const [red, green, blue] = colour.map((each) => each / 255)
      .map((each) => (each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4));
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  }

  function contrast(one, other) {
    const [high, low] = [luminance(one), luminance(other)].sort((a, b) => b - a);
    return (high + 0.05) / (low + 0.05);
  }

  function grounds(element) {
    const found = [];
    for (let each = element; each; each = each.parentElement) found.unshift(getComputedStyle(each).backgroundColor);
    return found;
  }

  const wrong = [];
  const seen = new Set();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.textContent.trim();
    const element = walker.currentNode.parentElement;
    if (!text || element.closest(":disabled, [aria-busy], noscript, script") || !element.checkVisibility()) continue;
    const ground = grounds(element);
    const { color } = getComputedStyle(element);
    const key = [...ground, color].join();
    if (seen.has(key)) continue;
    seen.add(key);
    const found = contrast(painted([...ground, color]), painted(ground));
    if (found < 4.5) wrong.push(`contrast ${found.toFixed(2)}: ${text.slice(0, 40)}`);
  }
  for (const each of document.querySelectorAll("input, select, textarea")) {
    const label = each.getAttribute("aria-label") || [...each.labels].map((one) => one.innerText).join("");
    if (!label.trim()) wrong.push(`no label: ${each.outerHTML.slice(0, 80)}`);
  }
  for (const each of document.querySelectorAll("th")) {
    if (!each.textContent.trim()) wrong.push(`a heading without a word in: ${each.closest("table").innerText.slice(0, 60)}`);
  }
  if (document.documentElement.scrollWidth > document.documentElement.clientWidth) wrong.push("wider than the window");
  return wrong;
})()
