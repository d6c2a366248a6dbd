import base64
import io
import re

import numpy as np
import pytest
import skimage.data
from PIL import Image

from gfn_jax import UserError
from gfn_jax.images.preview import to_picture
from gfn_jax.ops.scores import bicubic
from gfn_jax.restoration import article, report
from gfn_jax.restoration.report import open_report
from tests.browser import console, contrast, open_browser, pixels, requests, resize

RED, GREEN, BLUE = (200, 30, 30), (30, 160, 30), (30, 30, 200)
SCORES = [
  {'psnr': 9.5, 'ssim': 0.91, 'bicubic_psnr': 9.0, 'bicubic_ssim': 0.92},
  {'psnr': 30.25, 'ssim': 0.8, 'bicubic_psnr': 28.0, 'bicubic_ssim': 0.7},
  {'psnr': float('inf'), 'ssim': 1.0, 'bicubic_psnr': 12.0, 'bicubic_ssim': 0.75},
]
NAMES = ['b 10', 'b 9', '<script>document.title="hacked"</script>\nA & é.png']


def flat(colour, height, width):
  return np.full((height, width, 3), colour, np.uint8)


def page_of(path, images, **options):
  with open_report(path, 'Title', weights='gfn', **options) as page:
    for image in images:
      page.add(*image)
  return path.read_text('utf-8')


def embedded(text):
  """The pictures of a page, in order."""
  uris = re.findall(r'src="data:image/jpeg;base64,([^"]*)"', text)
  return [np.asarray(Image.open(io.BytesIO(base64.b64decode(uri)))) for uri in uris]


def difference(a, b):
  return np.abs(a.astype(int) - b).mean()


@pytest.fixture(scope='module')
def browser():
  with open_browser() as driver:
    yield driver


@pytest.fixture(scope='module')
def evaluated(tmp_path_factory):
  """A page with targets: red is bicubic, green restored, blue the target."""
  path = tmp_path_factory.mktemp('report') / 'out' / 'report.html'
  images = [
    (name, flat(RED, 75, 100), flat(GREEN, 300, 400), flat(BLUE, 300, 400), scores)
    for name, scores in zip(NAMES, SCORES, strict=True)
  ]
  page_of(path, images, protocol='gfn')
  return path


@pytest.fixture
def page(browser, evaluated):
  resize(browser, 1280, 900)
  browser.get(evaluated.as_uri())
  yield browser
  assert console(browser) == []


def stage(page):
  return page.find_element('css selector', '.stage')


def test_the_slider_follows_the_pointer(page):
  from selenium.webdriver import ActionChains

  left, right = pixels(stage(page))[150, [150, 250]]
  np.testing.assert_allclose(left, RED, atol=2)
  np.testing.assert_allclose(right, GREEN, atol=2)
  handle = page.find_element('css selector', '.stage i')
  ActionChains(page).drag_and_drop_by_offset(handle, 100, 0).perform()
  row = pixels(stage(page))[290]
  np.testing.assert_allclose(row[295], RED, atol=2)  # the cut was at 200
  np.testing.assert_allclose(row[305], GREEN, atol=2)


def test_the_slider_follows_the_keyboard(page):
  from selenium.webdriver import Keys

  slider = page.find_element('css selector', '.stage input')
  assert slider.get_attribute('aria-valuetext') == '50% Bicubic, 50% Restored'
  for _ in range(5):
    slider.send_keys(Keys.ARROW_LEFT)
  assert slider.get_attribute('aria-valuetext') == '45% Bicubic, 55% Restored'
  row = pixels(stage(page))[290]
  np.testing.assert_allclose(row[175], RED, atol=2)
  np.testing.assert_allclose(row[185], GREEN, atol=2)
  outline = stage(page).value_of_css_property('outline-style')
  assert outline == 'solid'  # where the keyboard is, is seen
  slider.send_keys(Keys.END)
  np.testing.assert_allclose(pixels(stage(page))[290, [5, 390]], [RED, RED], atol=2)


def test_any_two_of_the_three_pictures(page):
  from selenium.webdriver.support.ui import Select

  left, right = (Select(element) for element in page.find_elements('css selector', 'select'))
  right.select_by_visible_text('Target')
  np.testing.assert_allclose(pixels(stage(page))[290, [50, 350]], [RED, BLUE], atol=2)
  left.select_by_visible_text('Restored')
  np.testing.assert_allclose(pixels(stage(page))[290, [50, 350]], [GREEN, BLUE], atol=2)
  left.select_by_visible_text('Target')  # what is on the other side: they are swapped
  assert right.first_selected_option.text == 'Restored'
  np.testing.assert_allclose(pixels(stage(page))[290, [50, 350]], [BLUE, GREEN], atol=2)
  slider = page.find_element('css selector', '.stage input')
  assert slider.get_attribute('aria-valuetext') == '50% Target, 50% Restored'


def test_the_table_sorts(page):
  def psnr():
    cells = page.find_elements('css selector', 'tbody td:nth-child(3)')
    return [cell.text for cell in cells]

  def names():
    return [cell.text[:4].strip() for cell in page.find_elements('css selector', 'tbody th')]

  headers = page.find_elements('css selector', 'thead th')
  assert [header.text.split(' ↕')[0] for header in headers] == [
    'Image',
    *('PSNR bicubic', 'PSNR restored', 'PSNR gain'),
    *('SSIM bicubic', 'SSIM restored', 'SSIM gain'),
    'Size',
  ]
  assert psnr() == ['9.50', '30.25', '∞']
  button = headers[2].find_element('tag name', 'button')
  button.click()
  assert psnr() == ['9.50', '30.25', '∞']  # as text, 30 comes before 9
  assert headers[2].get_attribute('aria-sort') == 'ascending'
  button.click()
  assert psnr() == ['∞', '30.25', '9.50']
  assert headers[2].get_attribute('aria-sort') == 'descending'
  headers[0].find_element('tag name', 'button').click()
  assert headers[2].get_attribute('aria-sort') is None
  assert names() == ['<scr', 'b 9', 'b 10']
  gains = [cell.text for cell in page.find_elements('css selector', 'tbody td:nth-child(7)')]
  assert gains == ['+0.2500', '+0.1000', '−0.0100']
  [mean] = page.find_elements('css selector', 'tfoot tr')
  assert mean.text == 'Mean 16.33 ∞ +∞ 0.7900 0.9033 +0.1133'


def test_a_row_leads_to_its_image(page):
  page.find_element('css selector', 'tbody tr:nth-child(2) td:nth-child(4)').click()
  assert page.current_url.endswith('#image-2')
  heading = page.find_element('css selector', ':target h2')
  assert heading.text == 'b 9'


def test_names_are_text(page):
  assert page.title == 'Title'
  headings = [heading.text for heading in page.find_elements('css selector', 'h2')]
  assert headings[2] == NAMES[2].replace('\n', '\\n')


@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_a_phone(page, scheme):
  resize(page, 360, 700, scheme)
  width = page.execute_script('return document.documentElement.scrollWidth')
  assert width == 360
  ground = page.find_element('tag name', 'body').value_of_css_property('background-color')
  assert ground == {'light': 'rgba(255, 255, 255, 1)', 'dark': 'rgba(21, 24, 27, 1)'}[scheme]
  strip = 28  # the labels' place: none of them covers the picture
  assert stage(page).size == {'width': 328, 'height': 246 + strip}
  top = stage(page).find_element('css selector', 'img').rect['y']
  labels = stage(page).find_elements('css selector', 'div:not(.off) > span')
  assert [label.text for label in labels] == ['Bicubic', 'Restored']
  for label in labels:
    assert label.rect['y'] + label.rect['height'] <= top
    assert contrast(label, ground) >= 4.5


def test_nothing_is_loaded_nor_could_be(page, evaluated):
  assert set(requests(page)) == {evaluated.as_uri()}
  refused = page.execute_async_script("""
    const done = arguments[0];
    document.addEventListener('securitypolicyviolation', (event) => done(event.blockedURI));
    new Image().src = 'http://127.0.0.1:9/picture.png';
  """)
  assert refused == 'http://127.0.0.1:9/picture.png'
  assert len(console(page)) == 1  # the refusal


def test_the_summary_names_protocol_and_weights(evaluated):
  text = evaluated.read_text('utf-8')
  assert '3 images · weights gfn · pictures of' in text
  assert 'PSNR <b>∞</b> dB, bicubic 16.33 dB (+∞); SSIM <b>0.9033</b>, bicubic 0.7900' in text
  assert 'Protocol gfn, 8-bit RGB: 6 pixels are cut on each side' in text
  assert 'SSIM is what MATLAB gives for an RGB array' in text


def test_without_targets_bicubic_and_restored_are_shown(tmp_path):
  lr_blur, restored = skimage.data.astronaut()[:100, :150], skimage.data.coffee()[:400, :600]
  text = page_of(tmp_path / 'report.html', [('photo', lr_blur, restored)])
  before, after = embedded(text)
  assert difference(before, bicubic(lr_blur)) < 1.5
  assert difference(after, restored) < 3
  for absent in ('<select', 'PSNR', 'Target', 'Protocol', 'Mean'):
    assert absent not in text.split('</style>')[1].split('<script>')[0]
  assert '150 × 100 → 600 × 400<' in text
  assert [path.name for path in tmp_path.iterdir()] == ['report.html']


def test_an_image_that_was_only_deblurred_is_compared_with_its_input(tmp_path):
  photo = skimage.data.astronaut()[:100, :150]
  text = page_of(tmp_path / 'report.html', [('photo', photo, photo[::-1])])
  assert '<div class="left" data-label="Input">' in text
  assert difference(embedded(text)[0], photo) < 3


def test_large_images_are_reduced_beside_a_detail(tmp_path):
  lr_blur = flat((90, 90, 90), 400, 600)
  restored = flat((90, 90, 90), 1600, 2400)
  photo = skimage.data.astronaut()[:400, :512]
  restored[900:1300, 1700:2212] = photo  # what was gained
  text = page_of(tmp_path / 'report.html', [('photo', lr_blur, restored)])
  before, after, detail_before, detail = embedded(text)
  assert before.shape == after.shape == (1365, 2048, 3)
  assert detail_before.shape == detail.shape == (480, 640, 3)
  assert '600 × 400 → 2400 × 1600, shown as 2048 × 1365<' in text
  x, y = map(int, re.findall(r'(\d+) from the left and (\d+) from the top', text)[0])
  assert 1570 <= x <= 1702
  assert 818 <= y <= 902
  assert difference(detail, restored[y : y + 480, x : x + 640]) < 1.5
  assert difference(detail_before, flat((90, 90, 90), 480, 640)) < 1.5


def test_the_detail_of_bicubic_is_at_the_same_place(tmp_path):
  lr_blur = skimage.data.astronaut()[:200, :330]
  enlarged = bicubic(lr_blur)
  restored = enlarged.copy()
  restored[-300:, -500:] = 0
  text = page_of(tmp_path / 'report.html', [('photo', lr_blur, restored)])
  *_, detail_before, detail = embedded(text)
  assert (detail[-200:, -450:] < 30).all()
  assert difference(detail_before, enlarged[-480:, -640:]) < 1.5


@pytest.mark.parametrize(
  ('image', 'shown'),
  [
    (np.full((2, 3), 7, np.uint8), (7, 7, 7)),
    (np.full((2, 3, 1), 7, np.uint8), (7, 7, 7)),
    (np.full((2, 3, 2), [0, 51], np.uint8), (204, 204, 204)),
    (np.full((2, 3, 3), [255, 128, 0], np.uint8), (255, 128, 0)),
    (np.full((2, 3, 4), [255, 0, 0, 51], np.uint8), (255, 204, 204)),
    (np.full((2, 3, 3), [65535, 128, 129], np.uint16), (255, 0, 1)),
    (np.full((2, 3, 4), [0, 0, 0, 13107], np.uint16), (204, 204, 204)),
    (np.full((2, 3, 3), 0.5, np.float32), (128, 128, 128)),
  ],
)
def test_every_kind_of_image_is_shown_with_8_bits_on_white(image, shown):
  picture = to_picture(image)
  assert picture.size == (3, 2)
  assert picture.getcolors() == [(6, shown)]


def test_lpips_is_shown_if_the_scores_have_it(tmp_path):
  scores = SCORES[0] | {'lpips': 0.25, 'bicubic_lpips': 0.375}
  image = ('a', flat(RED, 20, 20), flat(GREEN, 80, 80), flat(BLUE, 80, 80))
  text = page_of(tmp_path / 'a.html', [(*image, scores)], protocol='gfn')
  headers = re.findall('<button>(.*?)</button>', text)
  assert headers[-4:] == ['LPIPS bicubic', 'LPIPS restored', 'LPIPS change', 'Size']
  assert '; LPIPS <b>0.2500</b>, bicubic 0.3750 (−0.1250)</p>' in text
  assert '>0.3750</td><td data-value="0.25">0.2500</td><td data-value="-0.125">−0.1250<' in text
  assert 'LPIPS (AlexNet, version 0.1) is taken over the whole image, and less is better' in text
  without = page_of(tmp_path / 'b.html', [(*image, SCORES[0])], protocol='gfn')
  assert 'LPIPS' not in without
  with pytest.raises(ValueError, match="^a: .*'lpips'.* are not the scores of the other images"):
    page_of(tmp_path / 'c.html', [(*image, SCORES[0]), (*image, scores)], protocol='gfn')


def test_images_beyond_the_limit_are_in_the_table_only(tmp_path, monkeypatch):
  monkeypatch.setattr(report, 'MAX_BYTES', 1)
  images = [(name, flat(RED, 20, 20), flat(GREEN, 80, 80)) for name in 'abc']
  text = page_of(tmp_path / 'report.html', images)
  assert len(embedded(text)) == 2
  assert text.count('href="#image') == 1
  assert 'the last 2 images in the table only' in text
  assert '<th scope="row">c</th>' in text


def test_an_error_leaves_nothing_behind(tmp_path):
  path = tmp_path / 'report.html'
  path.write_text('before')
  with pytest.raises(UserError, match='unreadable'), open_report(path, 'T', weights='w') as page:
    page.add('photo', flat(RED, 20, 20), flat(GREEN, 80, 80))
    raise UserError('unreadable')
  assert path.read_text() == 'before'
  assert [file.name for file in tmp_path.iterdir()] == ['report.html']


def test_an_image_that_fails_leaves_no_part_of_it(tmp_path, monkeypatch):
  def no_memory(*_):
    raise MemoryError

  large = flat(GREEN, 40, 1600)
  with open_report(tmp_path / 'report.html', 'T', weights='w') as page:
    with monkeypatch.context() as patch, pytest.raises(MemoryError):
      patch.setattr(article, '_detail_box', no_memory)
      page.add('bad', large, large)
    page.add('good', large, large)
  text = (tmp_path / 'report.html').read_text('utf-8')
  assert text.count('<article') == 1
  assert 'bad' not in text


def test_a_folder_is_no_page(tmp_path):
  with pytest.raises(UserError, match='is a folder; pass a file such as report.html'):
    page_of(tmp_path, [])


def test_images_that_do_not_fit(tmp_path):
  lr_blur, restored = flat(RED, 20, 20), flat(GREEN, 80, 80)
  with pytest.raises(ValueError, match='a target and scores belong to a report with a protocol'):
    page_of(tmp_path / 'a.html', [('a', lr_blur, restored)], protocol='gfn')
  with pytest.raises(ValueError, match='a target and scores belong to a report with a protocol'):
    page_of(tmp_path / 'a.html', [('a', lr_blur, restored, restored, SCORES[0])])
  target = restored[:40]
  with pytest.raises(ValueError, match=r'a: target \(40, 80, 3\) and restored \(80, 80, 3\)'):
    page_of(tmp_path / 'a.html', [('a', lr_blur, restored, target, SCORES[0])], protocol='gfn')
  assert list(tmp_path.iterdir()) == []
