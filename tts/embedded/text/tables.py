"""What the rules look up: abbreviations, units, acronyms, symbols."""

from __future__ import annotations

FOLDS = {
    "\u2018": "'", "\u2019": "'", "\u201a": "'", "\u201b": "'", "\u2032": "'", "\u02bc": "'",
    "\u0060": "'", "\u00b4": "'", "\u201c": '"', "\u201d": '"', "\u201e": '"', "\u00ab": '"',
    "\u00bb": '"', "\u2010": "-", "\u2011": "-", "\u2012": "-", "\u2212": "-", "\u2013": "\u2013",
    "\u2014": " -- ", "\u2015": " -- ", "\u2026": "... ", "\u00df": "ss", "\u00e6": "ae",
    "\u00c6": "Ae", "\u0153": "oe", "\u0152": "Oe", "\u00f8": "o", "\u00d8": "O", "\u0142": "l",
    "\u0141": "L", "\u0111": "d", "\u0110": "D", "\u00f0": "d", "\u00d0": "D", "\u00fe": "th",
    "\u00de": "Th", "\u0131": "i", "\u00d7": " times ", "\u00f7": " divided by ",
    "\u00b1": " plus or minus ", "\u00b2": " squared ", "\u00b3": " cubed ", "\u2122": "",
    "\u00ae": "", "\u00a9": "", "\u2192": " to ", "\u2248": " about ", "\u2264": " at most ",
    "\u2265": " at least ", "\u2260": " is not ", "\u00a7": " section ", "\u2126": " ohms ",
    "\u00b5": "u", "\u03bc": "u", "\u2116": "No. ", "\u00ba": "\u00b0", "\u2022": ", ",
    "\u20e3": " ", "\u00a2": " cents ",
}  # fmt: skip
VULGAR = {
    "\u00bd": "1/2", "\u00bc": "1/4", "\u00be": "3/4", "\u2153": "1/3", "\u2154": "2/3",
    "\u2155": "1/5", "\u215b": "1/8", "\u215c": "3/8", "\u215d": "5/8", "\u215e": "7/8",
}  # fmt: skip

# Said before a name; the dot never ends a sentence.
TITLES = {
    "Dr": "doctor", "Mr": "mister", "Mrs": "missus", "Ms": "miz", "Prof": "professor",
    "Gen": "general", "Col": "colonel", "Sgt": "sergeant", "Capt": "captain", "Lt": "lieutenant",
    "Gov": "governor", "Sen": "senator", "Rev": "reverend", "Hon": "honorable", "Pres": "president",
    "Maj": "major", "Cpl": "corporal", "Msgr": "monsignor", "Mt": "mount", "Ft": "fort",
}  # fmt: skip
# The dot stays where a sentence ends behind them.
ABBREVIATIONS = {
    "etc": "et cetera", "vs": "versus", "approx": "approximately", "dept": "department",
    "inc": "incorporated", "ltd": "limited", "corp": "corporation", "co": "company",
    "jr": "junior", "sr": "senior", "ave": "avenue", "blvd": "boulevard", "rd": "road",
    "hwy": "highway", "apt": "apartment", "bldg": "building", "govt": "government",
    "mgmt": "management", "assoc": "association", "bros": "brothers", "univ": "university",
    "intl": "international", "est": "established", "misc": "miscellaneous", "tel": "telephone",
    "ext": "extension", "temp": "temperature", "appt": "appointment", "qty": "quantity",
    "hrs": "hours", "hr": "hour", "mins": "minutes", "secs": "seconds", "lbs": "pounds",
    "lb": "pounds", "oz": "ounces", "yrs": "years", "yr": "year", "cf": "compare", "viz": "namely",
    "al": "al", "esp": "especially", "incl": "including", "max": "maximum", "min": "minimum",
    "avg": "average", "admin": "administration", "asst": "assistant", "attn": "attention",
    "natl": "national", "adj": "adjective", "pkg": "package", "mfg": "manufacturing",
}  # fmt: skip
# Only before a number.
BEFORE_NUMBER = {
    "no": "number", "nos": "numbers", "vol": "volume", "ch": "chapter", "fig": "figure",
    "figs": "figures", "p": "page", "pp": "pages", "sec": "section", "eq": "equation",
    "ver": "version", "rm": "room", "ste": "suite", "apt": "apartment", "ext": "extension",
    "ca": "circa", "v": "version", "pt": "part", "art": "article",
}  # fmt: skip
MONTHS = (
    "january february march april may june july august september october november december"
).split()
MONTH_ABBREVIATIONS = {m[:3].title(): m for m in MONTHS} | {"Sept": "september"}
DAYS = {
    "Mon": "monday", "Tue": "tuesday", "Tues": "tuesday", "Wed": "wednesday", "Thu": "thursday",
    "Thur": "thursday", "Thurs": "thursday", "Fri": "friday", "Sat": "saturday", "Sun": "sunday",
}  # fmt: skip

CURRENCIES = {
    "$": ("dollar", "dollars", "cent", "cents"),
    "\u00a3": ("pound", "pounds", "penny", "pence"),
    "\u20ac": ("euro", "euros", "cent", "cents"),
    "\u00a5": ("yen", "yen", "sen", "sen"),
    "\u20b9": ("rupee", "rupees", "paisa", "paise"),
}
MAGNITUDES = {"k": "thousand", "m": "million", "b": "billion", "t": "trillion",
              "bn": "billion", "mn": "million"}  # fmt: skip
# Singular and plural, by the exact spelling.
UNITS = {
    "km": "kilometer", "m": "meter", "cm": "centimeter", "mm": "millimeter", "nm": "nanometer",
    "um": "micrometer", "kg": "kilogram", "g": "gram", "mg": "milligram", "ug": "microgram",
    "lb": "pound", "lbs": "pound", "oz": "ounce", "mi": "mile", "yd": "yard", "yds": "yard",
    "l": "liter", "L": "liter", "ml": "milliliter", "mL": "milliliter", "ms": "millisecond",
    "us": "microsecond", "ns": "nanosecond", "s": "second", "sec": "second", "secs": "second",
    "min": "minute", "mins": "minute", "h": "hour", "hr": "hour", "hrs": "hour", "yr": "year",
    "yrs": "year", "Hz": "hertz", "kHz": "kilohertz", "MHz": "megahertz", "GHz": "gigahertz",
    "W": "watt", "kW": "kilowatt", "MW": "megawatt", "GW": "gigawatt", "kWh": "kilowatt hour",
    "Wh": "watt hour", "V": "volt", "kV": "kilovolt", "mV": "millivolt", "mA": "milliamp",
    "mAh": "milliamp hour", "dB": "decibel", "KB": "kilobyte", "kB": "kilobyte",
    "MB": "megabyte", "GB": "gigabyte", "TB": "terabyte", "PB": "petabyte", "GiB": "gibibyte",
    "MiB": "mebibyte", "kcal": "kilocalorie", "cal": "calorie", "kJ": "kilojoule",
    "Pa": "pascal", "kPa": "kilopascal", "hPa": "hectopascal", "px": "pixel",
    "tsp": "teaspoon", "tbsp": "tablespoon", "gal": "gallon", "pt": "pint", "qt": "quart",
    "ha": "hectare", "acre": "acre", "pts": "point",
}  # fmt: skip
IRREGULAR_UNITS = {
    "ft": ("foot", "feet"), "in.": ("inch", "inches"), "inch": ("inch", "inches"),
    "mph": ("mile per hour", "miles per hour"), "psi": ("p s i", "p s i"),
    "km/h": ("kilometer per hour", "kilometers per hour"),
    "kph": ("kilometer per hour", "kilometers per hour"),
    "m/s": ("meter per second", "meters per second"),
    "MB/s": ("megabyte per second", "megabytes per second"),
    "GB/s": ("gigabyte per second", "gigabytes per second"),
    "TB/s": ("terabyte per second", "terabytes per second"),
    "Mbps": ("megabit per second", "megabits per second"),
    "Gbps": ("gigabit per second", "gigabits per second"),
    "kbps": ("kilobit per second", "kilobits per second"),
    "m squared": ("square meter", "square meters"), "m cubed": ("cubic meter", "cubic meters"),
    "km squared": ("square kilometer", "square kilometers"),
    "cm squared": ("square centimeter", "square centimeters"),
    "cm cubed": ("cubic centimeter", "cubic centimeters"),
    "ft squared": ("square foot", "square feet"),
    "rpm": ("r p m", "r p m"), "fps": ("frame per second", "frames per second"),
    "sq ft": ("square foot", "square feet"), "sq. ft.": ("square foot", "square feet"),
    "\u00b0C": ("degree celsius", "degrees celsius"),
    "\u00b0F": ("degree fahrenheit", "degrees fahrenheit"),
    "C": ("degree celsius", "degrees celsius"), "F": ("degree fahrenheit", "degrees fahrenheit"),
    "\u00b0": ("degree", "degrees"), "ppm": ("p p m", "p p m"),
    "Hz": ("hertz", "hertz"), "kHz": ("kilohertz", "kilohertz"), "%": ("percent", "percent"),
    "MHz": ("megahertz", "megahertz"), "GHz": ("gigahertz", "gigahertz"),
}  # fmt: skip

# Capitals that are said as a word although they are an acronym.
WORD_ACRONYMS = frozenset(
    "NASA NATO UNESCO UNICEF OPEC LASER RADAR SCUBA AIDS COVID FEMA OSHA NAFTA SWAT PIN SIM RAM "
    "ROM JPEG GIF LAN WAN NAND NOR ASAP POTUS SARS ACID BASIC COBOL ASCII SONAR YAML TOML JSON "
    "LIDAR MIDI DOS BIOS CAPTCHA GUI WYSIWYG AWOL RICO IKEA FIFA UEFA NAACP PATH NASDAQ".split()
) - {"NAACP"}
# Capitals that could be said as a word but are spelled.
LETTER_ACRONYMS = frozenset(
    "AI API APR ATM AWS CEO CFO CIA CIO COO CTO DIY DNA DOA DOJ EPA ER ETA EU FAQ FAA GOP GPA "
    "GPU HIV HR IBM ID IO IOU IOS IP IPO IQ IRA IRS ISO IT IV LA LED LLC LED MIA MIT MRI NBA NFL "
    "NYU OS PA PE PIO POW PR QA RNA SOS SUV TA TSA UAE UAV UFO UI UK UN UNC UPS URL US USA USB UV "
    "UX VIP VOIP VA AC AM PM AD BA MA OEM ROI SEO SIP TUI UUID USC UCLA EMI IOT LEO EEG EKG ECG "
    "AAA ABC ADA AKA ALU AMA AOL ASL AST CAD CBS CDC CEO CIA CSS DC DIN DVD ENT ESL ESP EST EDT "
    "ETF FDA GDP GI HBO HOA HOV ICU IE ILO IMF INS IPA IRC ISP LCD MBA MSU NIH NSA NYC OCD OCR ODE "
    "OJ PBS PDF PE PHD PTA PSA RIP RSA RSI SAS SAT SDK SEC SKU SPF SSA SSN STD TBA TED TIA TLA "
    "UHF VHF WHO WWI XML XYZ YMCA".split()
) - {"SAT", "TED", "WHO", "ODE", "DIN", "RIP", "CAD", "INS", "SPF"} | {"SPF", "INS"}
EMPHATIC = frozenset(
    "A I AM AN AND ANY ARE AS AT BAD BE BIG BUT BUY BY CAN DAY DID DO END FOR FUN GET GO GOD GOOD "
    "HA HAS HE HER HEY HI HIM HIS HOT HOW IF IN IS ITS LET LOT ME MY NEW NO NOT NOW OF OH OK "
    "OLD ON ONE OR OUR OUT RUN SAY SEE SHE SO STOP TEN THE TO TOO TOP TRY TWO UP USE WAS WAY WE "
    "WHO WHY WIN WOW YES YET YOU ALL OFF ADD ASK HIT RED SET FIX".split()
)
SYMBOLS = {
    "&": " and ", "@": " at ", "+": " plus ", "=": " equals ", "%": " percent ",
    "\u00b0": " degrees ", "<": " less than ", ">": " greater than ", "\\": " backslash ",
    "$": " dollars ",
    "\u20ac": " euros ", "\u00a3": " pounds ", "\u00a5": " yen ", "\u20b9": " rupees ",
}  # fmt: skip
TLDS = "com|org|net|io|edu|gov|co|uk|de|fr|ai|dev|app|info|me|us|ca|eu|tv"
