-- title: Impossible travel
-- topic: Logins
-- answers: Who was in two countries within less time than the way between them takes?
-- when: To find a session that was stolen, or an account that several people share.
-- param since TIMESTAMP '1970-01-01' from this moment on
-- param until TIMESTAMP '2100-01-01' up to, but not including, this moment
-- param workspace VARCHAR NULL only this workspace
-- param max_kmh DOUBLE 1000 nobody travels faster than so many kilometres an hour
-- param history_days INTEGER(0..100000) 2 look so many days further back for where somebody was before since
-- column event_time TIMESTAMP WITH TIME ZONE when they were in the second country
-- column workspace_id VARCHAR where
-- column actor_id VARCHAR who
-- column actor_name VARCHAR their name, as the second event has it
-- column from_country VARCHAR the first country
-- column to_country VARCHAR the second country
-- column from_time TIMESTAMP WITH TIME ZONE when they were in the first
-- column minutes DOUBLE between the two events
-- column at_least_km BIGINT between the nearest places of the two countries, or less
-- column at_least_kmh BIGINT the speed that this takes; null if both events have the same time
-- column action VARCHAR what they did in the second country
-- column from_id VARCHAR id of the event in the first country
-- column id VARCHAR id of the event in the second country

-- Events tell a country and no coordinates, so each country is a circle around the places in it where
-- people live, and what counts is the way from edge to edge. Large and scattered countries have large
-- circles: between neighbours the way is often 0. The error is on the side of silence.
--
-- An event whose country is missing or not in the list is passed over. Athena keeps milliseconds: there
-- two events in one millisecond have the same time, and their ids decide which came first.
WITH countries AS (
    -- ISO 3166 code, centre in degrees, radius in kilometres. The smallest circles around all places with
    -- 1,000 inhabitants or more (500 in countries with few), and 20 km; made of GeoNames (geonames.org,
    -- CC BY 4.0). The bases of GB on Cyprus are left out. AQ, BV, HM, UM: The World Factbook.
    SELECT
        listed.code,
        CAST(listed.latitude AS DOUBLE) AS latitude,
        CAST(listed.longitude AS DOUBLE) AS longitude,
        CAST(listed.radius_km AS DOUBLE) AS radius_km
    FROM (VALUES
        ('AD', 42.5, 1.6, 40.0), ('AE', 24.8, 54.6, 230.0), ('AF', 34.5, 66.3, 640.0),
        ('AG', 17.3, -61.8, 60.0), ('AI', 18.2, -63.1, 40.0), ('AL', 41.1, 20.0, 190.0),
        ('AM', 40.0, 45.0, 190.0), ('AO', -11.3, 17.3, 930.0), ('AQ', -90.0, 0.0, 3000.0),
        ('AR', -38.4, -65.8, 1860.0), ('AS', -12.6, -170.3, 230.0), ('AT', 47.7, 13.3, 310.0),
        ('AU', -27.7, 133.9, 2120.0), ('AW', 12.5, -70.0, 40.0), ('AX', 60.2, 20.4, 70.0),
        ('AZ', 40.1, 47.6, 260.0), ('BA', 44.1, 17.4, 200.0), ('BB', 13.2, -59.5, 40.0),
        ('BD', 23.6, 90.5, 390.0), ('BE', 50.4, 4.3, 170.0), ('BF', 11.8, -1.8, 420.0),
        ('BG', 43.0, 25.4, 290.0), ('BH', 26.1, 50.6, 40.0), ('BI', -3.3, 30.0, 140.0),
        ('BJ', 9.1, 2.5, 360.0), ('BL', 17.9, -62.8, 30.0), ('BM', 32.3, -64.8, 40.0),
        ('BN', 4.8, 114.6, 80.0), ('BO', -16.0, -64.1, 770.0), ('BQ', 14.8, -65.7, 440.0),
        ('BR', -12.5, -52.0, 2390.0), ('BS', 23.8, -76.3, 440.0), ('BT', 27.2, 90.3, 150.0),
        ('BV', -54.4, 3.4, 30.0), ('BW', -22.0, 24.1, 510.0), ('BY', 53.1, 27.8, 350.0),
        ('BZ', 17.2, -88.5, 160.0), ('CA', 59.6, -88.1, 2690.0), ('CC', -12.2, 96.8, 30.0),
        ('CD', -3.6, 22.6, 1190.0), ('CF', 5.6, 20.7, 680.0), ('CG', -0.9, 15.3, 610.0),
        ('CH', 46.5, 8.1, 200.0), ('CI', 7.4, -5.5, 430.0), ('CK', -21.2, -159.8, 30.0),
        ('CL', -36.0, -85.1, 2520.0), ('CM', 7.5, 12.8, 640.0), ('CN', 39.0, 104.8, 2600.0),
        ('CO', 4.6, -75.6, 1190.0), ('CR', 9.8, -84.2, 240.0), ('CU', 21.3, -79.2, 560.0),
        ('CV', 16.1, -24.2, 180.0), ('CW', 12.2, -69.0, 50.0), ('CX', -10.4, 105.7, 30.0),
        ('CY', 35.2, 33.4, 130.0), ('CZ', 50.0, 15.5, 270.0), ('DE', 51.2, 10.3, 470.0),
        ('DJ', 11.7, 42.6, 140.0), ('DK', 56.0, 11.8, 260.0), ('DM', 15.4, -61.4, 50.0),
        ('DO', 18.9, -70.2, 220.0), ('DZ', 28.7, 2.6, 1090.0), ('EC', -0.9, -83.2, 890.0),
        ('EE', 58.8, 25.2, 210.0), ('EG', 27.0, 31.1, 800.0), ('EH', 24.0, -14.1, 490.0),
        ('ER', 14.1, 39.7, 380.0), ('ES', 35.5, -8.4, 1280.0), ('ET', 9.2, 40.7, 730.0),
        ('FI', 64.9, 24.6, 590.0), ('FJ', -15.4, 179.1, 420.0), ('FK', -51.7, -57.9, 30.0),
        ('FM', 7.0, 150.3, 1450.0), ('FO', 61.9, -6.7, 80.0), ('FR', 45.2, 2.6, 700.0),
        ('GA', -0.7, 11.6, 350.0), ('GB', 55.1, -4.1, 620.0), ('GD', 12.3, -61.6, 60.0),
        ('GE', 42.5, 43.1, 300.0), ('GF', 4.6, -53.0, 190.0), ('GG', 49.6, -2.4, 50.0),
        ('GH', 8.0, -1.2, 390.0), ('GI', 36.1, -5.4, 30.0), ('GL', 66.6, -49.3, 770.0),
        ('GM', 13.4, -15.3, 190.0), ('GN', 9.9, -11.2, 410.0), ('GP', 16.2, -61.4, 70.0),
        ('GQ', 0.4, 8.4, 400.0), ('GR', 38.0, 24.8, 510.0), ('GS', -54.3, -36.5, 30.0),
        ('GT', 15.7, -90.6, 240.0), ('GU', 13.4, 144.8, 50.0), ('GW', 12.1, -15.1, 150.0),
        ('GY', 5.8, -59.6, 300.0), ('HK', 22.4, 114.1, 50.0), ('HM', -53.1, 72.5, 30.0),
        ('HN', 14.7, -86.2, 350.0), ('HR', 44.4, 16.4, 280.0), ('HT', 18.8, -73.0, 180.0),
        ('HU', 47.4, 19.4, 280.0), ('ID', -1.5, 117.7, 2660.0), ('IE', 53.4, -8.3, 240.0),
        ('IL', 31.4, 35.3, 240.0), ('IM', 54.2, -4.6, 50.0), ('IN', 20.8, 84.4, 1870.0),
        ('IO', -7.3, 72.4, 30.0), ('IQ', 33.5, 45.5, 510.0), ('IR', 32.5, 53.5, 1160.0),
        ('IS', 65.1, -18.7, 260.0), ('IT', 41.3, 11.9, 670.0), ('JE', 49.2, -2.1, 30.0),
        ('JM', 18.1, -77.3, 140.0), ('JO', 31.4, 36.8, 310.0), ('JP', 34.7, 132.8, 1510.0),
        ('KE', 0.4, 38.0, 610.0), ('KG', 41.4, 74.0, 450.0), ('KH', 12.8, 104.9, 310.0),
        ('KI', 1.8, -172.2, 1680.0), ('KM', -11.9, 43.9, 110.0), ('KN', 17.3, -62.7, 50.0),
        ('KP', 40.5, 127.6, 370.0), ('KR', 36.1, 127.6, 360.0), ('KW', 29.3, 47.8, 110.0),
        ('KY', 19.6, -80.6, 110.0), ('KZ', 50.3, 66.3, 1440.0), ('LA', 17.6, 103.7, 520.0),
        ('LB', 33.8, 35.7, 120.0), ('LC', 13.9, -60.9, 50.0), ('LI', 47.1, 9.5, 40.0),
        ('LK', 7.9, 80.4, 250.0), ('LR', 6.3, -9.0, 290.0), ('LS', -29.6, 28.1, 120.0),
        ('LT', 55.5, 23.7, 200.0), ('LU', 49.8, 6.2, 60.0), ('LV', 56.5, 24.6, 250.0),
        ('LY', 28.5, 17.4, 850.0), ('MA', 29.0, -9.3, 970.0), ('MC', 43.7, 7.4, 30.0),
        ('MD', 47.0, 28.1, 190.0), ('ME', 42.6, 19.3, 110.0), ('MF', 18.1, -63.1, 30.0),
        ('MG', -18.8, 47.2, 780.0), ('MH', 8.7, 167.1, 620.0), ('MK', 41.5, 21.7, 130.0),
        ('ML', 15.6, -4.2, 820.0), ('MM', 18.7, 98.0, 1000.0), ('MN', 49.2, 104.0, 1110.0),
        ('MO', 22.2, 113.5, 40.0), ('MP', 15.1, 145.7, 40.0), ('MQ', 14.7, -61.0, 60.0),
        ('MR', 19.1, -10.8, 710.0), ('MS', 16.7, -62.2, 40.0), ('MT', 36.0, 14.4, 50.0),
        ('MU', -15.2, 59.7, 660.0), ('MV', 3.1, 73.1, 450.0), ('MW', -13.3, 34.3, 440.0),
        ('MX', 26.3, -101.7, 1670.0), ('MY', 5.5, 109.2, 1080.0), ('MZ', -19.1, 36.8, 970.0),
        ('NA', -22.3, 19.3, 780.0), ('NC', -21.2, 165.6, 290.0), ('NE', 15.7, 7.1, 730.0),
        ('NF', -29.1, 168.0, 30.0), ('NG', 9.4, 8.6, 740.0), ('NI', 12.8, -85.1, 280.0),
        ('NL', 52.2, 5.3, 190.0), ('NO', 64.7, 16.1, 920.0), ('NP', 28.0, 84.3, 440.0),
        ('NR', -0.5, 166.9, 30.0), ('NU', -19.1, -169.9, 30.0), ('NZ', -41.7, 174.8, 780.0),
        ('OM', 21.6, 55.1, 550.0), ('PA', 8.5, -80.1, 340.0), ('PE', -9.6, -73.6, 1060.0),
        ('PF', -17.7, -142.9, 1050.0), ('PG', -5.3, 148.2, 850.0), ('PH', 12.6, 121.5, 940.0),
        ('PK', 30.3, 68.7, 920.0), ('PL', 51.8, 18.9, 420.0), ('PM', 46.9, -56.3, 50.0),
        ('PN', -25.1, -130.1, 30.0), ('PR', 18.3, -66.3, 130.0), ('PS', 31.9, 34.8, 110.0),
        ('PT', 40.6, -18.8, 1090.0), ('PW', 5.5, 132.9, 380.0), ('PY', -23.5, -58.5, 530.0),
        ('QA', 25.6, 51.3, 100.0), ('RE', -21.1, 55.5, 70.0), ('RO', 45.6, 25.0, 390.0),
        ('RS', 44.2, 20.8, 270.0), ('RU', 65.3, 92.9, 4050.0), ('RW', -2.0, 29.7, 140.0),
        ('SA', 24.3, 42.5, 960.0), ('SB', -8.7, 161.1, 590.0), ('SC', -4.5, 55.7, 60.0),
        ('SD', 15.9, 29.6, 940.0), ('SE', 61.7, 15.8, 750.0), ('SG', 1.4, 103.8, 50.0),
        ('SH', -22.5, -13.5, 1650.0), ('SI', 46.2, 14.9, 150.0), ('SJ', 74.9, 0.6, 560.0),
        ('SK', 48.7, 19.5, 220.0), ('SL', 8.6, -11.8, 190.0), ('SM', 43.9, 12.5, 30.0),
        ('SN', 13.8, -14.6, 350.0), ('SO', 5.1, 46.3, 940.0), ('SR', 5.7, -55.5, 190.0),
        ('SS', 7.0, 29.0, 590.0), ('ST', 0.9, 7.0, 120.0), ('SV', 13.6, -88.9, 150.0),
        ('SX', 18.0, -63.1, 30.0), ('SY', 35.0, 38.9, 400.0), ('SZ', -26.6, 31.6, 120.0),
        ('TC', 21.6, -71.7, 90.0), ('TD', 14.8, 16.5, 810.0), ('TF', -49.3, 70.2, 30.0),
        ('TG', 8.6, 0.7, 310.0), ('TH', 13.1, 100.5, 840.0), ('TJ', 38.7, 70.8, 310.0),
        ('TK', -9.0, -171.9, 110.0), ('TL', -8.8, 125.8, 190.0), ('TM', 39.7, 59.5, 640.0),
        ('TN', 34.5, 9.6, 340.0), ('TO', -18.7, -174.4, 340.0), ('TR', 39.1, 35.4, 850.0),
        ('TT', 10.7, -61.2, 100.0), ('TV', -7.4, 177.8, 230.0), ('TW', 24.1, 120.4, 260.0),
        ('TZ', -5.8, 35.8, 740.0), ('UA', 49.3, 31.1, 690.0), ('UG', 1.1, 31.9, 390.0),
        ('UM', 9.9, -176.2, 2150.0), ('US', 43.5, -121.4, 4280.0), ('UY', -32.5, -55.9, 320.0),
        ('UZ', 43.1, 64.8, 750.0), ('VA', 41.9, 12.5, 30.0), ('VC', 13.2, -61.2, 50.0),
        ('VE', 7.4, -66.8, 730.0), ('VG', 18.4, -64.5, 40.0), ('VI', 18.0, -64.8, 70.0),
        ('VN', 16.0, 105.4, 850.0), ('VU', -16.7, 168.4, 350.0), ('WF', -13.8, -177.2, 150.0),
        ('WS', -13.7, -172.1, 90.0), ('XK', 42.6, 20.9, 90.0), ('YE', 14.6, 48.5, 660.0),
        ('YT', -12.8, 45.1, 40.0), ('ZA', -28.5, 25.0, 920.0), ('ZM', -13.2, 28.4, 670.0),
        ('ZW', -18.9, 29.3, 410.0)
    ) AS listed (code, latitude, longitude, radius_km)
),
located AS (
    SELECT
        event_time, workspace_id, actor_id, actor_name, action, ip_country, id,
        lag(ip_country) OVER (PARTITION BY workspace_id, actor_id ORDER BY event_time, id) AS from_country,
        lag(event_time) OVER (PARTITION BY workspace_id, actor_id ORDER BY event_time, id) AS from_time,
        lag(id) OVER (PARTITION BY workspace_id, actor_id ORDER BY event_time, id) AS from_id
    FROM events
    WHERE dt BETWEEN CAST(CAST($since - $history_days * INTERVAL '1' DAY AS DATE) AS VARCHAR) AND $until_day
        AND event_time >= $since - $history_days * INTERVAL '1' DAY AND event_time < $until
        AND ($workspace IS NULL OR workspace = $workspace)
        AND actor_id IS NOT NULL
        AND ip_country IN (SELECT code FROM countries)
),
moves AS (
    SELECT
        located.*,
        (epoch(event_time) - epoch(from_time)) / 3600 AS hours,
        here.radius_km + there.radius_km AS radii_km,
        -- The haversine formula: of the angle between the centres, the square of the sine of its half.
        power(sin((here.latitude - there.latitude) * 0.008726646259971648), 2)
            + cos(here.latitude * 0.017453292519943295) * cos(there.latitude * 0.017453292519943295)
            * power(sin((here.longitude - there.longitude) * 0.008726646259971648), 2) AS haversine
    FROM located
    INNER JOIN countries AS here ON here.code = located.ip_country
    INNER JOIN countries AS there ON there.code = located.from_country
    WHERE event_time >= $since AND ip_country <> from_country
),
ways AS (
    SELECT
        moves.*,
        -- 6,371 km is the radius of the earth; rounding may take the sine of opposite places above 1.
        2 * 6371 * asin(CASE WHEN haversine < 1 THEN sqrt(haversine) ELSE 1 END) - radii_km AS km
    FROM moves
)
SELECT
    event_time,
    workspace_id,
    actor_id,
    actor_name,
    from_country,
    ip_country AS to_country,
    from_time,
    round(hours * 60, 1) AS minutes,
    CAST(floor(km) AS BIGINT) AS at_least_km,
    CAST(floor(km / nullif(hours, 0)) AS BIGINT) AS at_least_kmh,
    action,
    from_id,
    id
FROM ways
WHERE km > 0 AND km > $max_kmh * hours
ORDER BY event_time, workspace_id, actor_id, id
