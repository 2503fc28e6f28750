// Animates the sum of the products behind a unit.

const SECONDS = 1.5;

// Draws the running sum in an element's canvas, if it has one; `still`: without animation.
export function addUp(within, still = matchMedia("(prefers-reduced-motion: reduce)").matches) {
  const canvas = within.querySelector("canvas.sum");
  if (!canvas) return;
  const products = JSON.parse(canvas.dataset.products), bias = Number(canvas.dataset.bias);
  const sums = [0];
  for (const one of [...products, bias]) sums.push(sums[sums.length - 1] + one);
  const last = sums.length - 1;
  let low = 0, high = 0;
  for (const sum of sums) {
    low = Math.min(low, sum);
    high = Math.max(high, sum);
  }
  const sharp = devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
  canvas.width = width * sharp;
  canvas.height = height * sharp;
  const drawing = canvas.getContext("2d"), style = getComputedStyle(document.body);
  drawing.scale(sharp, sharp);
  const y = (sum) => height - 14 - (sum - low) / ((high - low) || 1) * (height - 40);

  function stroke(colour, wide, points) {
    drawing.strokeStyle = style.getPropertyValue(colour);
    drawing.lineWidth = wide;
    drawing.beginPath();
    for (const [x, sum] of points) drawing.lineTo(x, y(sum));
    drawing.stroke();
  }

  function frame(now) {
    if (!canvas.isConnected) return;
    const share = still ? 1 : Math.min(1, (now - begun) / (1000 * SECONDS));
    const shown = Math.max(1, Math.round(share * last));
    drawing.clearRect(0, 0, width, height);
    stroke("--quiet", 1, [[0, 0], [width, 0]]);
    stroke("--accent", 2, sums.slice(0, shown + 1).map((sum, k) => [k / last * width, sum]));
    drawing.fillStyle = style.color;
    drawing.font = "14px system-ui, sans-serif";
    const count = Math.min(shown, products.length).toLocaleString("en");
    const what = shown === last ? `${count} products and the bias` : `${count} products`;
    drawing.fillText(`${what}: ${sums[shown].toPrecision(5)}`, 8, 17);
    if (share < 1) requestAnimationFrame(frame);
  }

  const begun = performance.now();
  requestAnimationFrame(frame);
}
